//! Identifiers of 128 bits, formatted as UUIDs.

/// The error of a text that is not an identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an identifier; write 32 hexadecimal digits, with or without hyphens")]
pub struct InvalidId {
    text: String,
}

impl InvalidId {
    /// Creates an error that says that `text` is not an identifier. The error keeps the first 64
    /// characters of `text`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self { text: text.chars().take(64).collect() }
    }
}

/// Defines identifier types, each a separate type.
///
/// The crates of the workspace use it. It is no part of the API.
#[doc(hidden)]
#[macro_export]
macro_rules! __ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            /// Returns the identifier with this number.
            #[must_use]
            pub const fn new(number: u128) -> Self {
                Self(number)
            }

            /// Draws an identifier of 128 random bits from `rng`. Two draws are equal with a chance of 2^-128.
            #[must_use]
            pub fn random(rng: &$crate::Rng) -> Self {
                Self(u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64()))
            }

            /// Returns the number.
            #[must_use]
            pub const fn get(self) -> u128 {
                self.0
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                let part = |shift: u32, digits: u32| (self.0 >> shift) & ((1 << (4 * digits)) - 1);
                let (a, b, c) = (part(96, 8), part(80, 4), part(64, 4));
                ::std::write!(f, "{a:08x}-{b:04x}-{c:04x}-{:04x}-{:012x}", part(48, 4), part(0, 12))
            }
        }

        impl ::std::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                ::std::write!(f, "{}({self})", ::std::stringify!($name))
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = $crate::InvalidId;

            /// Parses 32 hexadecimal digits, with or without hyphens, as `Display` writes them.
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let digits: String = text.chars().filter(|c| *c != '-').collect();
                if digits.len() != 32 || !digits.chars().all(|c| c.is_ascii_hexdigit()) {
                    return Err($crate::InvalidId::new(text));
                }
                let number = u128::from_str_radix(&digits, 16);
                number.map(Self).map_err(|_| $crate::InvalidId::new(text))
            }
        }
    )*};
}
pub(crate) use __ids as ids;

#[cfg(test)]
mod tests {
    use crate::idempotency::ClaimId;

    #[test]
    fn an_id_is_read_as_it_is_written() {
        let id = ClaimId::new(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
        assert_eq!(id.to_string(), "00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("00112233445566778899AABBCCDDEEFF".parse(), Ok(id));
        let wrong =
            ["", "0011", "zz112233445566778899aabbccddeeff", "+0112233445566778899aabbccddeeff"];
        for wrong in wrong {
            assert!(wrong.parse::<ClaimId>().is_err(), "{wrong}");
        }
    }
}
