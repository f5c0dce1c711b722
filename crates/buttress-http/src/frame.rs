//! [`PolledFrame`]: the answer of `poll_frame`.

use std::task::Poll;

use bytes::Bytes;
use http_body::Frame;

/// The next frame of a body whose errors are `E`.
pub(crate) type PolledFrame<E, D = Bytes> = Poll<Option<Result<Frame<D>, E>>>;
