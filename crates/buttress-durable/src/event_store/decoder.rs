//! [`Decoder`]: decodes recorded events, also of older schemas.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use buttress::{Codec, CodecError, Format};
use tower::BoxError;

use super::recorded::{Ordered, Recorded};
use super::stream::{Position, StreamId, Version};
use crate::event::DomainEvent;

type Step = Box<dyn Fn(Vec<u8>) -> Result<Vec<u8>, BoxError> + Send + Sync>;

/// Functions that turn the data of older schemas into data of newer ones, by kind and version.
///
/// Each step leads from one version to the next. A decoder chains them up to the version that
/// [`DomainEvent::KINDS`] names.
///
/// ```
/// use buttress_durable::event_store::Upcasters;
/// let upcasters = Upcasters::new()
///     .rename("order.created", "order.placed")
///     .step("order.placed", 1, |data| {
///         let mut data = String::from_utf8(data)?;
///         data.insert_str(1, r#""currency":"EUR","#);
///         Ok(data.into_bytes())
///     });
/// ```
#[derive(Default)]
#[must_use]
pub struct Upcasters {
    steps: HashMap<&'static str, HashMap<u32, Step>>,
    renamed: HashMap<&'static str, &'static str>,
}

impl Upcasters {
    /// Creates a set without steps.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the step for data of `kind` from `version` to the next version. Replaces an earlier step for the same kind
    /// and version.
    pub fn step(
        mut self,
        kind: &'static str,
        version: u32,
        step: impl Fn(Vec<u8>) -> Result<Vec<u8>, BoxError> + Send + Sync + 'static,
    ) -> Self {
        self.steps.entry(kind).or_default().insert(version, Box::new(step));
        self
    }

    /// Reads events of the kind `old` as events of the kind `new`, before any step. The version stays.
    pub fn rename(mut self, old: &'static str, new: &'static str) -> Self {
        self.renamed.insert(old, new);
        self
    }

    fn name<'a>(&self, kind: &'a str) -> &'a str {
        self.renamed.get(kind).copied().unwrap_or(kind)
    }

    /// Turns data of `from` into data of `to`.
    fn upcast(&self, kind: &str, from: u32, to: u32, data: &[u8]) -> Result<Vec<u8>, Fault> {
        let steps = self.steps.get(kind);
        let mut data = data.to_vec();
        for version in from..to {
            let step = steps.and_then(|steps| steps.get(&version));
            let kind = || kind.to_owned();
            let step = step.ok_or_else(|| Fault::MissingUpcaster { kind: kind(), version })?;
            data = step(data).map_err(|source| Fault::Upcaster {
                kind: kind(),
                version,
                source: source.into(),
            })?;
        }
        Ok(data)
    }
}

impl fmt::Debug for Upcasters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut steps: Vec<(&str, u32)> = self
            .steps
            .iter()
            .flat_map(|(kind, steps)| steps.keys().map(|version| (*kind, *version)))
            .collect();
        steps.sort_unstable();
        f.debug_struct("Upcasters").field("steps", &steps).field("renamed", &self.renamed).finish()
    }
}

/// The reason why the data of a recorded event cannot be decoded.
#[non_exhaustive]
#[derive(Clone, Debug, thiserror::Error)]
pub enum Fault {
    /// The program does not know the kind, or its schema is newer than the program.
    #[error("the program does not know the kind in this schema: name it in `DomainEvent::KINDS`")]
    Unknown,
    /// The schema is older than the program's, and a step to the next version is missing.
    #[error("no upcaster of `{kind}` from version {version}: add it with `Upcasters::step`")]
    MissingUpcaster {
        /// The kind of the step.
        kind: String,
        /// The version that the step starts from.
        version: u32,
    },
    /// A step failed.
    #[error("the upcaster of `{kind}` from version {version} failed")]
    Upcaster {
        /// The kind of the step.
        kind: String,
        /// The version that the step starts from.
        version: u32,
        /// The error of the step.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The codec cannot read the data.
    #[error("the codec cannot read the data")]
    Codec(#[source] CodecError),
}

/// A recorded event that cannot be decoded. Reading it again has the same result, until the program changes.
#[non_exhaustive]
#[derive(Clone, Debug, thiserror::Error)]
#[error("event {}{version} of stream {stream}, kind `{kind}`, schema {schema}: cannot be decoded", at(*.position))]
pub struct Undecodable {
    /// The stream.
    pub stream: StreamId,
    /// The place in the stream.
    pub version: Version,
    /// The place among all events, if the reader knew it.
    pub position: Option<Position>,
    /// The kind.
    pub kind: String,
    /// The version of the data's schema.
    pub schema: u32,
    /// The reason.
    #[source]
    pub fault: Box<Fault>,
}

fn at(position: Option<Position>) -> String {
    position.map(|position| format!("at position {position}, ")).unwrap_or_default()
}

/// A decoder of recorded events, with a codec and [`Upcasters`]. Cheap to clone if the codec is.
#[derive(Clone, Debug)]
#[must_use]
pub struct Decoder<C> {
    pub(super) codec: C,
    upcasters: Arc<Upcasters>,
}

impl<C: Format<Encoded = Vec<u8>>> Decoder<C> {
    /// Creates a decoder without upcasters.
    pub fn new(codec: C) -> Self {
        Self { codec, upcasters: Arc::default() }
    }

    /// Sets the upcasters. Default: none.
    pub fn upcasters(mut self, upcasters: Upcasters) -> Self {
        self.upcasters = Arc::new(upcasters);
        self
    }

    /// Decodes an event of a stream.
    ///
    /// # Errors
    /// Returns [`Undecodable`] if the program does not know the kind or the schema, if an upcaster is missing or fails,
    /// or if the codec cannot read the data.
    pub fn decode<T>(&self, event: &Recorded) -> Result<Arc<T>, Undecodable>
    where
        T: DomainEvent,
        C: Codec<T>,
    {
        self.read(event).map_err(|fault| Undecodable {
            stream: event.stream.clone(),
            version: event.version,
            position: None,
            kind: event.kind.clone(),
            schema: event.schema,
            fault: Box::new(fault),
        })
    }

    /// Decodes an event as [`decode`](Self::decode) does. The error names the position.
    ///
    /// # Errors
    /// Returns the errors of [`decode`](Self::decode).
    pub fn decode_at<T>(&self, ordered: &Ordered) -> Result<Arc<T>, Undecodable>
    where
        T: DomainEvent,
        C: Codec<T>,
    {
        self.decode(&ordered.event).map_err(|mut error| {
            error.position = Some(ordered.position);
            error
        })
    }

    fn read<T>(&self, event: &Recorded) -> Result<Arc<T>, Fault>
    where
        T: DomainEvent,
        C: Codec<T>,
    {
        let kind = self.upcasters.name(&event.kind);
        let newest = crate::event::newest::<T>(kind).ok_or(Fault::Unknown)?;
        if event.schema > newest {
            return Err(Fault::Unknown);
        }
        if event.schema == newest {
            return self.codec.decode(&event.data).map_err(Fault::Codec);
        }
        let data = self.upcasters.upcast(kind, event.schema, newest, &event.data)?;
        self.codec.decode(&data).map_err(Fault::Codec)
    }
}
