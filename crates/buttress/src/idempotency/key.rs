//! [`Key`] and [`Fingerprint`]: which requests are the same.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

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
/// clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Scope, a unit separator, key. No part holds control characters, so it cannot be mistaken.
    text: Arc<str>,
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
        if let Some(character) = scope.chars().chain(key.chars()).find(|c| c.is_control()) {
            return Err(InvalidKey::Control { character: character.into() });
        }
        let mut text = String::with_capacity(length);
        text.push_str(scope);
        text.push('\u{1f}');
        text.push_str(key);
        Ok(Self { text: text.into() })
    }

    /// Scope and key with a unit separator (U+001F) between them, as stores keep it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The scope.
    #[must_use]
    pub fn scope(&self) -> &str {
        self.text.split_once('\u{1f}').map_or("", |(scope, _)| scope)
    }

    /// The key without its scope.
    #[must_use]
    pub fn key(&self) -> &str {
        self.text.split_once('\u{1f}').map_or(&self.text, |(_, key)| key)
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
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
    /// A digest made elsewhere. It is stored, so it must be the same in every process and release.
    #[must_use]
    pub const fn new(digest: u128) -> Self {
        Self(digest)
    }

    /// The FNV-1a digest of `bytes` (Fowler, Noll and Vo; 128 bits). It tells slips apart; whoever
    /// wants to can make two requests alike.
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

    /// The digest.
    #[must_use]
    pub const fn get(self) -> u128 {
        self.0
    }
}

#[cfg(test)]
mod tests {
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
    fn what_no_key_may_be() {
        assert_eq!(Key::new(""), Err(InvalidKey::Empty));
        assert!(Key::new(&"k".repeat(511)).is_ok());
        let error = Key::new(&"k".repeat(512)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "idempotency key: 513 bytes with its scope, at most 512 are allowed"
        );
        assert!(Key::new("a\nb").is_err());
    }

    #[test]
    fn the_published_digests() {
        assert_eq!(Fingerprint::of(b"").get(), 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
        assert_eq!(Fingerprint::of(b"a").get(), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
    }
}
