//! [`Answer`]: the result of an operation of a store.

use std::future::Future;
use std::pin::Pin;

pub use buttress::Answer;

/// An operation of a store whose type is erased.
pub(crate) type Fut<'a, T> = Pin<Box<dyn Future<Output = Answer<T>> + Send + 'a>>;
