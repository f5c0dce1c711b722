//! Where a key lies between the two sides: SipHash of a salt and the key.

/// Returns the key of a text or of bytes, for [`Split::stick_by`](super::Split::stick_by).
///
/// It is SipHash-2-4 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012) with the key zero. So every
/// process and every release returns the same key. Two texts have the same key by chance of 2^-64, and then they are
/// on the same side.
///
/// ```
/// use buttress::split::key;
/// assert_eq!(key("alice"), key(String::from("alice")));
/// assert_ne!(key("alice"), key("bob"));
/// ```
#[must_use]
pub fn key(of: impl AsRef<[u8]>) -> u64 {
    siphash(Salt { k0: 0, k1: 0 }, of.as_ref())
}

/// The key of `SipHash`, made of the salt of a split.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Salt {
    k0: u64,
    k1: u64,
}

impl Salt {
    pub(super) fn of(text: &str) -> Self {
        let half = |k0| siphash(Self { k0, k1: 0 }, text.as_bytes());
        Self { k0: half(0), k1: half(1) }
    }

    /// Returns the point of a key. Points of different salts are independent.
    #[inline]
    pub(super) fn point(self, key: u64) -> u64 {
        siphash(self, &key.to_le_bytes())
    }
}

/// SipHash-2-4.
#[inline]
fn siphash(Salt { k0, k1 }: Salt, bytes: &[u8]) -> u64 {
    let mut state = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let words = bytes.chunks_exact(8);
    // The last word has the rest of the bytes, and the length in its highest byte.
    let last = word(words.remainder()) | (bytes.len() as u64) << 56;
    for word in words.map(word).chain([last]) {
        state[3] ^= word;
        state = round(round(state));
        state[0] ^= word;
    }
    state[2] ^= 0xff;
    let [v0, v1, v2, v3] = (0..4).fold(state, |state, _| round(state));
    v0 ^ v1 ^ v2 ^ v3
}

/// Returns up to 8 bytes as a word, the first byte lowest.
#[inline(always)]
fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

#[inline(always)]
fn round([mut v0, mut v1, mut v2, mut v3]: [u64; 4]) -> [u64; 4] {
    v0 = v0.wrapping_add(v1);
    v2 = v2.wrapping_add(v3);
    v1 = v1.rotate_left(13) ^ v0;
    v3 = v3.rotate_left(16) ^ v2;
    v0 = v0.rotate_left(32).wrapping_add(v3);
    v2 = v2.wrapping_add(v1);
    v1 = v1.rotate_left(17) ^ v2;
    v3 = v3.rotate_left(21) ^ v0;
    v2 = v2.rotate_left(32);
    [v0, v1, v2, v3]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_value() {
        // The example of the paper's appendix A: the key 00..0f and the message 00..0e.
        let salt = Salt { k0: 0x0706_0504_0302_0100, k1: 0x0f0e_0d0c_0b0a_0908 };
        let message: Vec<u8> = (0..15).collect();
        assert_eq!(siphash(salt, &message), 0xa129_ca61_49be_45e5);
    }

    #[test]
    #[expect(deprecated, reason = "the one hasher of std whose algorithm is fixed")]
    fn every_length_is_that_of_stds_siphash() {
        use std::hash::{Hasher, SipHasher};
        let bytes: Vec<u8> = (0..64_u8).map(|byte| byte.wrapping_mul(37)).collect();
        for length in 0..=bytes.len() {
            let mut hasher = SipHasher::new_with_keys(3, u64::MAX);
            hasher.write(&bytes[..length]);
            let salt = Salt { k0: 3, k1: u64::MAX };
            assert_eq!(siphash(salt, &bytes[..length]), hasher.finish(), "{length}");
        }
    }

    #[test]
    fn a_salt_moves_the_points() {
        let (one, other) = (Salt::of("one"), Salt::of("other"));
        assert_ne!(one, other);
        let equal = (0..1000).filter(|key| one.point(*key) >> 63 == other.point(*key) >> 63);
        assert!((400..600).contains(&equal.count()), "independent");
    }
}
