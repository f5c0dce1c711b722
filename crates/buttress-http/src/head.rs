//! The head of a response, which classifiers read.

use http::{Extensions, HeaderMap, Response, StatusCode};

/// A response whose head [`ByStatus`](crate::ByStatus) and
/// [`RetryableStatus`](crate::RetryableStatus) judge: a `http::Response`, and with the feature
/// `reqwest` a `reqwest::Response`.
///
/// It is sealed.
pub trait HttpResponse: sealed::HasHead {}

impl<T: sealed::HasHead> HttpResponse for T {}

/// The parts of a response that classifiers read. Every type of response has them.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    pub(crate) status: StatusCode,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) extensions: &'a Extensions,
}

pub(crate) mod sealed {
    use super::Head;

    pub trait HasHead {
        fn head(&self) -> Head<'_>;
    }
}

impl<B> sealed::HasHead for Response<B> {
    fn head(&self) -> Head<'_> {
        Head { status: self.status(), headers: self.headers(), extensions: self.extensions() }
    }
}

#[cfg(feature = "reqwest")]
impl sealed::HasHead for reqwest::Response {
    fn head(&self) -> Head<'_> {
        Head { status: self.status(), headers: self.headers(), extensions: self.extensions() }
    }
}
