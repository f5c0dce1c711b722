//! [`Key`] and [`Fingerprint`]: the identity of requests.

use std::cmp::Ordering;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock};

/// U+001F, between scope and key.
const SEPARATOR: u8 = 0x1f;

/// The error of a key that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidKey {
    /// The key is empty.
    #[error("idempotency key: the key is empty, at least 1 byte is required")]
    Empty,
    /// The key, with its scope, is too long.
    #[error("idempotency key: {length} bytes with its scope, at most {} are allowed", Key::LONGEST)]
    TooLong {
        /// The length of key and scope in bytes.
        length: usize,
    },
    /// The scope of a request is empty, and [`scope_by`](super::IdempotencyLayer::scope_by)
    /// requires one. The request would otherwise share its results with every other request without
    /// a scope.
    #[error("idempotency key: the scope is empty, at least 1 byte is required")]
    NoScope,
    /// The key or scope contains a control character.
    #[error("idempotency key: control character U+{character:04X}, none is allowed")]
    Control {
        /// The number of the character.
        character: u32,
    },
}

/// The key of a request, inside of a scope. Requests with the same key are repetitions.
///
/// The scope (a tenant, an operation) separates equal keys that two callers chose by chance. Cheap
/// to clone, and hashed once.
#[derive(Clone)]
pub struct Key {
    /// Scope, unit separator, key. Neither part contains control characters, so the split is
    /// unambiguous. Stored as bytes: UTF-8 validation would cost as much as joining the parts, and
    /// most callers never read the key as text.
    text: Arc<[u8]>,
    /// SipHash with a secret of this process, so that callers who choose keys cannot choose
    /// collisions.
    hash: u64,
}

impl Key {
    /// The length of the longest key in bytes, with its scope. An index of every supported database
    /// can hold it.
    pub const LONGEST: usize = 512;

    /// Creates a key without a scope.
    ///
    /// # Errors
    /// Returns an error if `key` is empty, longer than [`LONGEST`](Self::LONGEST), or contains
    /// control characters.
    pub fn new(key: &str) -> Result<Self, InvalidKey> {
        Self::scoped("", key)
    }

    /// Creates a key inside of `scope`. An empty `scope` means no scope.
    ///
    /// # Errors
    /// Returns the errors of [`new`](Self::new), for key and scope together.
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
        // On the stack, so that only the shared text is allocated. Most keys are short, and a short
        // buffer is quickly zeroed.
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

    /// Returns `true` if the key has a scope that is not empty.
    #[inline]
    pub(super) fn has_scope(&self) -> bool {
        self.text.first() != Some(&SEPARATOR)
    }

    /// Returns the hash that [`Hashed`] passes through.
    pub(super) const fn hash(&self) -> u64 {
        self.hash
    }

    /// Returns the same key inside of `scope`, unless the key has its own scope.
    pub(super) fn within(self, scope: &str) -> Result<Self, InvalidKey> {
        if self.has_scope() { Ok(self) } else { Self::scoped(scope, self.key()) }
    }

    /// Returns scope and key with a unit separator (U+001F) between them, in the form that stores
    /// keep.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Two UTF-8 texts with an ASCII character between them are UTF-8.
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

/// Writes scope, separator and key into `place`, which is long enough. Returns the written part.
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

/// Returns `true` if all of `text` is printable ASCII. It checks eight bytes at a time, because
/// most keys are ASCII, and a check per byte would cost as much as hashing.
#[inline(always)]
fn is_plain(text: &[u8]) -> bool {
    const EACH: u64 = u64::MAX / 0xff;
    // A byte below 0x20 borrows. A byte of 0x7f or more carries, or has its high bit set already.
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
        // Some bytes are checked twice.
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
        // Most keys are clones of one another, so their text need not be read.
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

/// A hasher of values that are hashes already, for maps by [`Key`].
#[derive(Clone, Copy, Default)]
pub(super) struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, bytes: &[u8]) {
        // Keys write one word. Other values would still give a valid hash.
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

/// A digest of the contents of a request. The same key with another digest is a mistake of the
/// caller.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Fingerprint(u128);

impl Fingerprint {
    /// Creates a fingerprint from your own digest. Stores keep it, so it must be the same in every
    /// process and release.
    #[must_use]
    pub const fn new(digest: u128) -> Self {
        Self(digest)
    }

    /// Returns the FNV-1a digest of `bytes` (Fowler, Noll and Vo; 128 bits). It detects mistakes.
    /// An attacker can find two requests with one digest.
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
