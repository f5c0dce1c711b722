//! The longest body of a request that a route takes. The announced length is checked before the request is forwarded,
//! and the bytes are counted while they stream.

use super::Body;

/// The bytes that a body may still have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SizeLimit {
    room: u64,
}

impl SizeLimit {
    /// Creates a limit. `None` allows a body of any size.
    pub(crate) fn new(limit: Option<u64>) -> Self {
        Self { room: limit.unwrap_or(u64::MAX) }
    }

    /// Whether a body announces more bytes than the limit has.
    pub(crate) fn is_exceeded_by(self, body: &Body) -> bool {
        http_body::Body::size_hint(body).lower() > self.room
    }

    /// Takes the bytes of one frame. Returns `false` if the limit has fewer.
    pub(crate) fn take(&mut self, bytes: u64) -> bool {
        let room = self.room.checked_sub(bytes);
        self.room = room.unwrap_or(self.room);
        room.is_some()
    }
}
