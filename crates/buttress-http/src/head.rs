use http::{Extensions, HeaderMap, Response, StatusCode};

/// The parts of a response that classifiers read. Every type of response has them.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) status: StatusCode,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) extensions: &'a Extensions,
}

impl<'a, B> From<&'a Response<B>> for Head<'a> {
    fn from(response: &'a Response<B>) -> Self {
        Self {
            status: response.status(),
            headers: response.headers(),
            extensions: response.extensions(),
        }
    }
}

#[cfg(feature = "reqwest")]
impl<'a> From<&'a reqwest::Response> for Head<'a> {
    fn from(response: &'a reqwest::Response) -> Self {
        Self {
            status: response.status(),
            headers: response.headers(),
            extensions: response.extensions(),
        }
    }
}
