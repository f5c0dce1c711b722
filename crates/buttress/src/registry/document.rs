//! The configuration document, and how it is read.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use crate::{balance, bulkhead, circuit_breaker, rate_limit, retry, time_limit};

/// The configuration of named instances, read from any serde format. The document is the section
/// `resilience` of a file, or a whole file without other sections.
///
/// Missing keys have their defaults. Unknown names and keys, and values out of their bounds, are
/// errors with their path.
#[derive(Clone, Debug, Default)]
pub struct Document {
    pub(super) patterns: Patterns,
}

/// Makes [`Patterns`] and [`File`], which have the same tables.
macro_rules! patterns {
    ($($pattern:ident: $config:ty,)+) => {
        #[derive(Clone, Debug, Default, serde::Deserialize)]
        #[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
        #[serde(expecting = "a table of patterns")]
        pub(super) struct Patterns {
            $(
                #[serde(deserialize_with = "named")]
                pub(super) $pattern: BTreeMap<String, $config>,
            )+
        }

        /// A whole file: the patterns are under `resilience`, or at the top.
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case", expecting = "a table of patterns")]
        struct File {
            resilience: Option<Patterns>,
            $(
                #[serde(default, deserialize_with = "named")]
                $pattern: BTreeMap<String, $config>,
            )+
        }

        impl File {
            /// Returns the patterns under `resilience`, and those at the top.
            fn split(self) -> (Option<Patterns>, Patterns) {
                let Self { resilience, $($pattern,)+ } = self;
                (resilience, Patterns { $($pattern,)+ })
            }
        }

        impl Patterns {
            fn is_empty(&self) -> bool {
                $(self.$pattern.is_empty())&&+
            }
        }
    };
}

patterns! {
    balance: balance::Config,
    bulkhead: bulkhead::Config,
    circuit_breaker: circuit_breaker::Config,
    rate_limiter: rate_limit::Config,
    retry: retry::Config,
    time_limiter: time_limit::Config,
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let file: File = serde_path_to_error::deserialize(deserializer).map_err(|error| {
            D::Error::custom(format_args!("{}: {}", error.path(), error.inner()))
        })?;
        let (resilience, top) = file.split();
        match resilience {
            None => Ok(Self { patterns: top }),
            Some(patterns) if top.is_empty() => Ok(Self { patterns }),
            Some(_) => Err(D::Error::custom(
                "patterns are both under `resilience` and beside it; put all of them under `resilience`",
            )),
        }
    }
}

/// Reads instances by name. A repeated name is an error, because one of the two instances would be
/// lost.
fn named<'de, D, T>(deserializer: D) -> Result<BTreeMap<String, T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Named<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Named<T> {
        type Value = BTreeMap<String, T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table of named instances")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut named = BTreeMap::new();
            while let Some((name, instance)) = map.next_entry::<String, T>()? {
                if named.contains_key(&name) {
                    return Err(A::Error::custom(format_args!(
                        "the name \"{name}\" is used twice; rename one instance"
                    )));
                }
                named.insert(name, instance);
            }
            Ok(named)
        }
    }

    deserializer.deserialize_map(Named(PhantomData))
}
