//! [`Key`] and [`Fingerprint`]: which requests are the same.

use std::cmp::Ordering;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock};

/// U+001F, between scope and key.
const SEPARATOR: u8 = 0x1f;

/// A key that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidKey {
    /// A key without text.
    #[error("idempotency key: empty, at least 1 byte is wanted")]
    Empty,
    /// A key or scope that is too long.
    #[error("idempotency key: {length} bytes with its scope, at most {} are allowed", Key::LONGEST)]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// A request without a scope, where [`scope_by`](super::IdempotencyLayer::scope_by) asks for one: it would
    /// share its results with every other request without one.
    #[error("idempotency key: the scope is empty, at least 1 byte is wanted")]
    NoScope,
    /// A key or scope with a control character in it.
    #[error("idempotency key: control character U+{character:04X}, none is allowed")]
    Control {
        /// The number of the character.
        character: u32,
    },
}

/// What makes two requests the same: a key from the request, inside a scope.
///
/// The scope (a tenant, an operation) keeps keys apart that two users happened to choose alike. Cheap to
/// clone, and hashed once.
#[derive(Clone)]
pub struct Key {
    /// Scope, a unit separator, key. No part holds control characters, so it cannot be mistaken. Bytes,
    /// because to see that a joined text is text costs as much as to join it; few ask for it as text.
    text: Arc<[u8]>,
    /// By SipHash with a secret of this process, because whoever chooses keys must not choose collisions.
    hash: u64,
}

impl Key {
    /// The longest key in bytes, with its scope: what an index of every database takes.
    pub const LONGEST: usize = 512;

    /// `key` without a scope.
    ///
    /// # Errors
    /// It is empty, longer than [`LONGEST`](Self::LONGEST), or holds control characters.
    pub fn new(key: &str) -> Result<Self, InvalidKey> {
        Self::scoped("", key)
    }

    /// `key` inside of `scope`, which may be empty.
    ///
    /// # Errors
    /// As [`new`](Self::new), of the two together.
    pub fn scoped(scope: &str, key: &str) -> Result<Self, InvalidKey> {
        if key.is_empty() {
            return Err(InvalidKey::Empty);
        }
        let length = scope.len() + 1 + key.len();
        if length > Self::LONGEST {
            return Err(InvalidKey::TooLong { length });
        }
        if let Some(character) = control(scope).or_else(|| control(key)) {
            return Err(InvalidKey::Control { character: character.into() });
        }
        // On the stack, so that the shared text is all that is allocated. Most keys are short, and a short buffer
        // is cleared at once.
        Ok(if length <= 64 {
            Self::of_bytes(join(scope, key, &mut [0; 64]))
        } else {
            Self::of_bytes(join(scope, key, &mut [0; Self::LONGEST]))
        })
    }

    #[inline(always)]
    fn of_bytes(text: &[u8]) -> Self {
        Self { hash: hash(text), text: text.into() }
    }

    /// Returns `true` if it has a scope that is not empty.
    #[inline]
    pub(super) fn has_scope(&self) -> bool {
        self.text.first() != Some(&SEPARATOR)
    }

    /// What [`Hashed`] makes of it.
    pub(super) const fn hash(&self) -> u64 {
        self.hash
    }

    /// Returns the same key inside of `scope`, unless it has a scope of its own.
    pub(super) fn within(self, scope: &str) -> Result<Self, InvalidKey> {
        if self.has_scope() { Ok(self) } else { Self::scoped(scope, self.key()) }
    }

    /// Scope and key with a unit separator (U+001F) between them, as stores keep it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Whole texts with an ASCII character between them are text.
        std::str::from_utf8(&self.text).unwrap_or_default()
    }

    /// Returns the scope.
    #[must_use]
    pub fn scope(&self) -> &str {
        self.parts().0
    }

    /// Returns the key without its scope.
    #[must_use]
    pub fn key(&self) -> &str {
        self.parts().1
    }

    fn parts(&self) -> (&str, &str) {
        self.as_str().split_once(char::from(SEPARATOR)).unwrap_or_default()
    }
}

/// Puts scope, separator and key into `place`, which is long enough; returns what they take.
#[inline(always)]
fn join<'a>(scope: &str, key: &str, place: &'a mut [u8]) -> &'a [u8] {
    let at = scope.len();
    if let Some(place) = place.get_mut(..at) {
        place.copy_from_slice(scope.as_bytes());
    }
    if let Some(place) = place.get_mut(at) {
        *place = SEPARATOR;
    }
    if let Some(place) = place.get_mut(at + 1..at + 1 + key.len()) {
        place.copy_from_slice(key.as_bytes());
    }
    place.get(..at + 1 + key.len()).unwrap_or_default()
}

/// Returns the first control character of `text`.
#[inline(always)]
fn control(text: &str) -> Option<char> {
    if is_plain(text.as_bytes()) { None } else { text.chars().find(|c| c.is_control()) }
}

/// Returns `true` if all of `text` is printable ASCII. Eight bytes at a time: most keys are, and a
/// byte at a time would cost as much as to hash them.
#[inline(always)]
fn is_plain(text: &[u8]) -> bool {
    const EACH: u64 = u64::MAX / 0xff;
    // A byte below 0x20 borrows, one of 0x7f or more carries or is marked already.
    let odd = |word: u64| {
        (word.wrapping_sub(EACH * 0x20) | word.wrapping_add(EACH) | word) & (EACH * 0x80)
    };
    let mut chunks = text.chunks_exact(8);
    let mut found = 0;
    for chunk in &mut chunks {
        found |= chunk.first_chunk().map_or(EACH * 0x80, |chunk| odd(u64::from_le_bytes(*chunk)));
    }
    let rest = chunks.remainder();
    let rest = match text.last_chunk() {
        // Some bytes once more.
        Some(last) => odd(u64::from_le_bytes(*last)) == 0,
        None => rest.iter().all(|byte| (0x20..0x7f).contains(byte)),
    };
    found == 0 && rest
}

fn hash(text: &[u8]) -> u64 {
    static SECRET: OnceLock<RandomState> = OnceLock::new();
    let mut hasher = SECRET.get_or_init(RandomState::new).build_hasher();
    hasher.write(text);
    hasher.finish()
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        // Most are clones of one another: their text need not be read.
        self.hash == other.hash && (Arc::ptr_eq(&self.text, &other.text) || self.text == other.text)
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text.cmp(&other.text)
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// The hasher of what is a hash already, for maps by [`Key`].
#[derive(Clone, Copy, Default)]
pub(super) struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, bytes: &[u8]) {
        // Keys write a word; anything else would still be a hash, of a kind.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    #[inline]
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scope() {
            "" => f.write_str(self.key()),
            scope => write!(f, "{scope}/{}", self.key()),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

/// A digest of what a request asks for: the same key with another digest is a mistake of the caller.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Fingerprint(u128);

impl Fingerprint {
    /// Creates a digest made elsewhere. It is stored, so it must be the same in every process and
    /// release.
    #[must_use]
    pub const fn new(digest: u128) -> Self {
        Self(digest)
    }

    /// Returns the FNV-1a digest of `bytes` (Fowler, Noll and Vo; 128 bits). It tells slips apart;
    /// whoever wants to can make two requests alike.
    #[must_use]
    pub const fn of(bytes: &[u8]) -> Self {
        const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
        const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
        let mut digest = BASIS;
        let mut rest = bytes;
        while let Some((byte, after)) = rest.split_first() {
            digest = (digest ^ *byte as u128).wrapping_mul(PRIME);
            rest = after;
        }
        Self(digest)
    }

    /// Returns the digest.
    #[must_use]
    pub const fn get(self) -> u128 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasherDefault;

    use super::*;

    #[test]
    fn a_scope_cannot_be_mistaken_for_a_part_of_a_key() {
        let one = Key::scoped("a", "b/c").unwrap();
        let two = Key::scoped("a/b", "c").unwrap();
        assert_ne!(one, two);
        assert_eq!((one.scope(), one.key()), ("a", "b/c"));
        assert_eq!(Key::new("x").unwrap().to_string(), "x");
        assert_eq!(Key::scoped("a\u{1f}", "c"), Err(InvalidKey::Control { character: 0x1f }));
    }

    #[test]
    fn a_scope_is_given_to_keys_that_have_none() {
        let key = |scope, key| Key::scoped(scope, key).unwrap();
        assert_eq!(key("", "k").within("pay").unwrap(), key("pay", "k"));
        assert_eq!(key("own", "k").within("pay").unwrap(), key("own", "k"));
        assert!(key("", "k").within(&"s".repeat(511)).is_err());
        let hash = |key: &Key| BuildHasherDefault::<Hashed>::default().hash_one(key);
        assert_eq!(hash(&key("a", "b")), hash(&key("a", "b")));
        assert_ne!(hash(&key("a", "b")), hash(&key("a", "c")));
    }

    #[test]
    fn short_and_long_keys_are_put_together_alike() {
        for length in [1, 7, 8, 62, 63, 64, 65, 511] {
            let text = "k".repeat(length);
            let key = Key::new(&text).unwrap();
            assert_eq!((key.scope(), key.key()), ("", &*text));
            assert_eq!(key, Key::new(&text).unwrap());
            assert_ne!(key, Key::new(&text.replacen('k', "l", 1)).unwrap());
            if length > 2 {
                let key = Key::scoped("k", &text[2..]).unwrap();
                assert_eq!((key.scope(), key.key()), ("k", &text[2..]));
            }
        }
    }

    #[test]
    fn what_no_key_may_be() {
        assert_eq!(Key::new(""), Err(InvalidKey::Empty));
        assert!(Key::new(&"k".repeat(511)).is_ok());
        let error = Key::new(&"k".repeat(512)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "idempotency key: 513 bytes with its scope, at most 512 are allowed"
        );
        assert!(Key::new("a\nb").is_err());
        assert_eq!(Key::new("\u{e9}\u{85}"), Err(InvalidKey::Control { character: 0x85 }));
        assert_eq!(Key::new("caf\u{e9}").unwrap().key(), "caf\u{e9}");
    }

    #[test]
    fn a_control_character_is_found_wherever_it_stands() {
        for length in [1, 2, 7, 8, 9, 15, 16, 17, 20, 37, 64, 65, 300] {
            for at in 0..length {
                let mut text = vec![b'~'; length];
                text[at] = b' ';
                assert!(Key::new(std::str::from_utf8(&text).unwrap()).is_ok());
                for character in (0..0x20).chain([0x7f]) {
                    text[at] = character;
                    let refused = Key::new(std::str::from_utf8(&text).unwrap());
                    assert_eq!(refused, Err(InvalidKey::Control { character: character.into() }));
                }
            }
        }
    }

    #[test]
    fn the_published_digests() {
        assert_eq!(Fingerprint::of(b"").get(), 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
        assert_eq!(Fingerprint::of(b"a").get(), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
    }
}
