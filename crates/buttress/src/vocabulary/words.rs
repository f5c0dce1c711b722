//! `words!`: the text of each value of an enum.

/// Makes `as_str`, with the given documentation, and `Display` of an enum.
///
/// The crates of the workspace use it. It is no part of the API.
#[doc(hidden)]
#[macro_export]
macro_rules! __words {
    ($(#[$doc:meta])+ $name:ident { $($value:ident => $text:literal),+ $(,)? }) => {
        impl $name {
            $(#[$doc])+
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $text,)+
                }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use __words as words;
