//! Reads the sections of a document as values.
//!
//! A value of `serde_json` alone would lose what an operator wrote: it keeps the last of two equal keys, and makes
//! `null`, and a key that is not set, of a number that is not finite.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The sections by name.
pub(super) type Sections = BTreeMap<String, Value>;

/// Reads the sections of routes.
pub(super) fn routes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Sections, D::Error> {
    deserializer.deserialize_map(ByName(Path { above: None, key: Key::Name("routes") }))
}

/// Reads the sections of admissions.
pub(super) fn admissions<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Sections, D::Error> {
    deserializer.deserialize_map(ByName(Path { above: None, key: Key::Name("admissions") }))
}

/// The place of a value in the document.
#[derive(Clone, Copy)]
struct Path<'p> {
    above: Option<&'p Self>,
    key: Key<'p>,
}

#[derive(Clone, Copy)]
enum Key<'p> {
    Name(&'p str),
    /// The place of an element.
    Index(usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(above) = self.above {
            above.fmt(f)?;
        }
        match (self.key, self.above) {
            (Key::Index(place), _) => write!(f, "[{place}]"),
            (Key::Name(name), Some(_)) => write!(f, ".{name}"),
            (Key::Name(name), None) => f.write_str(name),
        }
    }
}

/// Reads the entries of a map, and refuses a key that occurs twice.
fn entries<'de, A: MapAccess<'de>>(
    path: &Path<'_>,
    mut map: A,
    what: &str,
    mut add: impl FnMut(String, Value) -> Option<Value>,
) -> Result<(), A::Error> {
    while let Some(key) = map.next_key::<String>()? {
        let below = Path { above: Some(path), key: Key::Name(&key) };
        let value = map.next_value_seed(Any(below))?;
        if add(key.clone(), value).is_some() {
            return Err(A::Error::custom(format!(
                "{below}: the {what} is used twice; remove or rename one"
            )));
        }
    }
    Ok(())
}

/// Reads the sections of one part.
struct ByName<'p>(Path<'p>);

impl<'de> Visitor<'de> for ByName<'_> {
    type Value = Sections;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of sections by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Sections, A::Error> {
        let mut sections = Sections::new();
        entries(&self.0, map, "name", |name, section| sections.insert(name, section))?;
        Ok(sections)
    }
}

/// Reads a value of any kind.
struct Any<'p>(Path<'p>);

impl<'de> DeserializeSeed<'de> for Any<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Any<'_> {
    fn empty<E: Error>(&self) -> E {
        E::custom(format!("{}: the key has no value; give it one, or remove it", self.0))
    }
}

impl<'de> Visitor<'de> for Any<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value);
        let number = number
            .ok_or_else(|| E::custom(format!("{}: {value} is not a finite number", self.0)))?;
        Ok(number.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Err(self.empty())
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Err(self.empty())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        loop {
            let below = Path { above: Some(&self.0), key: Key::Index(values.len()) };
            match list.next_element_seed(Any(below))? {
                Some(value) => values.push(value),
                None => return Ok(values.into()),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        entries(&self.0, map, "key", |key, value| values.insert(key, value))?;
        Ok(values.into())
    }
}
