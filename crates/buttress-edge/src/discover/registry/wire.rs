//! The messages between registry and clients, as JSON.

use std::collections::BTreeMap;

use buttress::discover::Instance;
use serde::{Deserialize, Serialize};

/// The announcement of an instance.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    pub address: String,
    #[serde(default = "one")]
    pub weight: u32,
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

fn one() -> u32 {
    1
}

/// The answer to a heartbeat.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Taken {
    /// An instance expires after this time without a heartbeat, in milliseconds.
    pub ttl_ms: u64,
}

/// An instance in the answer of a registry, as the registry writes it.
#[derive(Debug, Serialize)]
pub(super) struct Entry<'e> {
    pub id: &'e str,
    #[serde(flatten)]
    pub record: &'e Record,
}

/// The set of a service, as the registry writes it.
#[derive(Debug, Serialize)]
pub(super) struct Sent<'e> {
    /// Differs from the version of every other set of the service, also from the versions of an earlier registry.
    pub version: String,
    pub instances: Vec<Entry<'e>>,
}

/// An instance in the answer of a registry, as a client reads it.
#[derive(Debug, Deserialize)]
pub(super) struct Listed {
    pub id: String,
    #[serde(flatten)]
    pub record: Record,
}

/// The set of a service, as a client reads it.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    pub version: String,
    pub instances: Vec<Listed>,
}

impl From<Listed> for Instance {
    fn from(listed: Listed) -> Self {
        let Listed { id, record: Record { address, weight, metadata } } = listed;
        let instance = Self::new(id, address).with_weight(weight);
        metadata
            .into_iter()
            .fold(instance, |instance, (key, value)| instance.with_metadata(key, value))
    }
}

/// The longest name or id, in bytes.
const LONGEST: usize = 128;

/// Whether a text can be the name of a service, or the id of an instance. A name of dots only would be a part of the
/// path with another meaning.
pub(super) fn is_name(text: &str) -> bool {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=LONGEST).contains(&text.len())
        && text.bytes().all(is_known)
        && text.bytes().any(|byte| byte != b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edge_5_16_names_have_1_to_128_known_characters() {
        for name in ["a", "orders-1", "A.b_C-9", &"a".repeat(128), "..a"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "a b", "a/b", "a%2fb", "é", ".", "..", "a:b", "a\0", &"a".repeat(129)] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn a_record_has_weight_1_and_no_metadata_unless_it_says_so() {
        let record: Record = serde_json::from_str(r#"{"address":"10.0.0.1:1"}"#).unwrap();
        assert_eq!((record.weight, record.metadata.len()), (1, 0));
        assert!(serde_json::from_str::<Record>(r#"{"address":"a","wieght":1}"#).is_err());
        assert!(serde_json::from_str::<Record>(r#"{"address":"a","weight":-1}"#).is_err());
        let record = Record {
            address: "b:1".into(),
            weight: 3,
            metadata: [("zone".into(), "c".into())].into(),
        };
        let instances = vec![Entry { id: "x", record: &record }];
        let text = serde_json::to_string(&Sent { version: "a-1".into(), instances }).unwrap();
        let mut read: Page = serde_json::from_str(&text).unwrap();
        let instance = Instance::from(read.instances.remove(0));
        let expected = Instance::new("x", "b:1").with_weight(3).with_metadata("zone", "c");
        assert_eq!((instance, read.version.as_str()), (expected, "a-1"));
    }
}
