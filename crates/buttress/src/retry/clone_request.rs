use std::fmt;

/// A copier that makes the request of the next attempt.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot repeat a `{Req}`",
    label = "a retry needs a second copy of this request",
    note = "derive `Clone` for the request, or say how to copy it with `.clone_request(|request: &{Req}| ..)`; `None` means this request gets one attempt",
    note = "for an HTTP request, `.clone_with(buttress_http::IdempotentRequests)` copies the requests that may be repeated",
    note = "for an HTTP request with a streaming body, put `buttress_http::ReplayLayer` outside of the retry"
)]
pub trait CloneRequest<Req> {
    /// Returns a copy to send if this attempt fails. `None` if the request cannot be repeated: it
    /// then gets one attempt.
    fn clone_request(&self, request: &Req) -> Option<Req>;

    /// Returns `true` if the copy that was made before the failed attempt can still be sent. A body
    /// that is recorded may have outgrown its buffer meanwhile.
    fn is_repeatable(&self, copy: &Req) -> bool {
        let _ = copy;
        true
    }

    /// Fixes the contents of `copy`, because another attempt has been decided on. It runs before
    /// the wait.
    ///
    /// Returns `false` if the copy is no longer valid. The retry then returns the failure.
    fn commit(&self, copy: &Req) -> bool {
        let _ = copy;
        true
    }

    /// Writes the number of the attempt, from 1, into the request. It runs before each attempt.
    fn stamp(&self, request: &mut Req, attempt: u32) {
        let _ = (request, attempt);
    }
}

/// A copier of requests that are `Clone`. The default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByClone;

#[diagnostic::do_not_recommend]
impl<Req: Clone> CloneRequest<Req> for ByClone {
    fn clone_request(&self, request: &Req) -> Option<Req> {
        Some(request.clone())
    }
}

impl<Req, F: Fn(&Req) -> Option<Req>> CloneRequest<Req> for F {
    fn clone_request(&self, request: &Req) -> Option<Req> {
        self(request)
    }
}

/// A copier that copies as `Q` does, and stamps with a closure.
/// [`RetryLayer::on_attempt`](super::RetryLayer::on_attempt) makes it.
#[derive(Clone, Copy)]
pub struct Stamped<Q, F> {
    clone: Q,
    stamp: F,
}

impl<Q, F> Stamped<Q, F> {
    pub(super) fn new(clone: Q, stamp: F) -> Self {
        Self { clone, stamp }
    }
}

impl<Req, Q: CloneRequest<Req>, F: Fn(&mut Req, u32)> CloneRequest<Req> for Stamped<Q, F> {
    fn clone_request(&self, request: &Req) -> Option<Req> {
        self.clone.clone_request(request)
    }

    fn is_repeatable(&self, copy: &Req) -> bool {
        self.clone.is_repeatable(copy)
    }

    fn commit(&self, copy: &Req) -> bool {
        self.clone.commit(copy)
    }

    fn stamp(&self, request: &mut Req, attempt: u32) {
        self.clone.stamp(request, attempt);
        (self.stamp)(request, attempt);
    }
}

impl<Q: fmt::Debug, F> fmt::Debug for Stamped<Q, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stamped").field("clone", &self.clone).finish_non_exhaustive()
    }
}
