//! [`Codec`]: converts typed values to the form that a store keeps.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// The error of a value that could not be encoded or decoded.
#[derive(Clone, Debug)]
pub struct CodecError {
    codec: &'static str,
    message: String,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl CodecError {
    /// Creates an error of the codec called `codec`.
    pub fn new(codec: &'static str, message: impl fmt::Display) -> Self {
        Self { codec, message: message.to_string(), source: None }
    }

    /// Sets the cause, which `source()` then returns.
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.codec, self.message)
    }
}

impl StdError for CodecError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// A family of codecs that encode to one type.
pub trait Format: Clone + Send + Sync + 'static {
    /// The encoded form of a value, which a store keeps.
    type Encoded: Clone + Send + Sync + 'static;
    /// The name of the format. Durable stores keep it beside the values, so that a reader with
    /// another codec detects the mismatch.
    const NAME: &'static str;
}

/// A codec that encodes values of type `T` for a store and decodes them again.
pub trait Codec<T>: Format {
    /// Returns `value` in the form that the store keeps.
    ///
    /// # Errors
    /// Returns an error if the value cannot be expressed in this format.
    fn encode(&self, value: &Arc<T>) -> Result<Self::Encoded, CodecError>;

    /// Returns the value that was encoded.
    ///
    /// # Errors
    /// Returns an error if `encoded` is not a `T` in this format.
    fn decode(&self, encoded: &Self::Encoded) -> Result<Arc<T>, CodecError>;
}

/// A codec of stores in memory. It keeps values unchanged and needs no serde.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InMemory;

/// A value that [`InMemory`] keeps.
///
/// It is its own type because the compiler cannot prove that a future with a bare `Arc<dyn Any>`
/// can move to another thread.
#[derive(Clone, Debug)]
pub struct InMemoryValue(Arc<dyn Any + Send + Sync>);

impl InMemoryValue {
    /// Returns `true` if both are the same allocation. Equal values in two allocations return
    /// `false`.
    #[must_use]
    pub fn ptr_eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl InMemoryValue {
    /// Returns `true` if both values are known to be equal.
    ///
    /// Values of a plain type (an integer, `bool`, `char`, `String`, `&'static str`, `Vec<u8>`) are
    /// compared. For values of another type it returns `true` only if both are the same allocation.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        macro_rules! plain {
            ($($type:ty),*) => {
                $(if let (Some(one), Some(other)) =
                    (self.0.downcast_ref::<$type>(), other.0.downcast_ref::<$type>())
                {
                    return one == other;
                })*
            };
        }
        plain!((), bool, char, u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize);
        plain!(String, &'static str, Vec<u8>);
        self.ptr_eq(other)
    }
}

impl Format for InMemory {
    type Encoded = InMemoryValue;
    const NAME: &'static str = "in-memory";
}

impl<T: Send + Sync + 'static> Codec<T> for InMemory {
    fn encode(&self, value: &Arc<T>) -> Result<Self::Encoded, CodecError> {
        Ok(InMemoryValue(value.clone()))
    }

    fn decode(&self, encoded: &Self::Encoded) -> Result<Arc<T>, CodecError> {
        let expected = std::any::type_name::<T>();
        let value = encoded.0.clone();
        value.downcast().map_err(|_| CodecError::new(Self::NAME, format!("not a {expected}")))
    }
}

/// A codec of JSON text, for stores that keep bytes (feature `json`).
#[cfg(feature = "json")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json;

#[cfg(feature = "json")]
impl Format for Json {
    type Encoded = Vec<u8>;
    const NAME: &'static str = "json";
}

#[cfg(feature = "json")]
impl<T> Codec<T> for Json
where
    T: serde::Serialize + serde::de::DeserializeOwned + Send + Sync + 'static,
{
    fn encode(&self, value: &Arc<T>) -> Result<Vec<u8>, CodecError> {
        serde_json::to_vec(&**value).map_err(of_json)
    }

    fn decode(&self, encoded: &Vec<u8>) -> Result<Arc<T>, CodecError> {
        serde_json::from_slice(encoded).map(Arc::new).map_err(of_json)
    }
}

#[cfg(feature = "json")]
fn of_json(error: serde_json::Error) -> CodecError {
    CodecError::new(Json::NAME, &error).with_source(error)
}
