//! [`Secret`]: a credential that a document names and does not hold.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

/// A credential in the configuration of an admission: `{ env = "NAME" }` or `{ file = "path" }`.
///
/// A document that holds the credential itself is refused, because documents reach version control and tickets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Secret(Place);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Place {
    Env(String),
    File(PathBuf),
}

/// The error of a [`Secret`] that cannot be read. It names the place and omits the content.
#[derive(Debug)]
pub struct SecretError {
    place: Place,
    source: Option<io::Error>,
}

/// The longest file of a credential in bytes.
const LONGEST: u64 = 64 * 1024;

impl Secret {
    /// Reads the credential. One line end at the end of a file is not part of it.
    ///
    /// # Errors
    /// Returns an error if the variable is not set or not valid Unicode, the file cannot be read or has more than 64
    /// KiB, or the credential is empty.
    pub fn read(&self) -> Result<Vec<u8>, SecretError> {
        let error = |source| SecretError { place: self.0.clone(), source };
        let mut content = match &self.0 {
            Place::Env(name) => std::env::var(name).map_err(|_| error(None))?.into_bytes(),
            Place::File(path) => read(path).map_err(|source| error(Some(source)))?,
        };
        if matches!(self.0, Place::File(_)) && content.last() == Some(&b'\n') {
            content.pop();
            if content.last() == Some(&b'\r') {
                content.pop();
            }
        }
        if content.is_empty() { Err(error(None)) } else { Ok(content) }
    }
}

/// Reads a file up to its longest length: `/dev/zero` is a file too.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(LONGEST + 1).read_to_end(&mut content)?;
    if content.len() as u64 > LONGEST {
        return Err(io::Error::other("the file has more than 64 KiB"));
    }
    Ok(content)
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Env(name) => {
                write!(f, "the environment variable {name} has no credential: set it")
            }
            Place::File(path) => {
                write!(f, "the file {} has no credential that can be read", path.display())
            }
        }
    }
}

impl std::error::Error for SecretError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ByPlace).map(Self)
    }
}

struct ByPlace;

const KEYS: &[&str] = &["env", "file"];

impl<'de> Visitor<'de> for ByPlace {
    type Value = Place;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{ env = \"NAME\" } or { file = \"path\" }")
    }

    /// A literal one. The message omits it.
    fn visit_str<E: Error>(self, _: &str) -> Result<Place, E> {
        Err(E::custom(
            "a credential is written in the document; write { env = \"NAME\" } or { file = \"path\" }",
        ))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Place, A::Error> {
        let mut place = None;
        while let Some(key) = map.next_key::<String>()? {
            let next = match &*key {
                "env" => Place::Env(map.next_value()?),
                "file" => Place::File(map.next_value()?),
                _ => return Err(A::Error::unknown_field(&key, KEYS)),
            };
            if place.replace(next).is_some() {
                return Err(A::Error::custom("both `env` and `file` are given; remove one"));
            }
        }
        place.ok_or_else(|| A::Error::custom("`env` or `file` is missing"))
    }
}
