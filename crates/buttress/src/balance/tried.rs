use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// The endpoints that the attempts of one request have met. Cheap to clone; all clones share it.
///
/// Keep one in the request, so that the copies that a retry or a hedge makes share it. Attempts then go to endpoints
/// that the request has not met. Once it has met all of them, any endpoint may get the next attempt.
///
/// ```
/// use buttress::balance::Tried;
///
/// #[derive(Clone)]
/// struct Order { number: u64, tried: Tried }
///
/// let order = Order { number: 7, tried: Tried::new() };
/// assert_eq!(order.tried.len(), 0);
/// ```
#[derive(Clone, Default)]
pub struct Tried(Arc<Mutex<Record>>);

#[derive(Default)]
struct Record {
    /// The numbers of the endpoints. A set of bits would need a bound for them, or confuse two.
    serials: Vec<u64>,
    /// When the endpoint of the current attempt could begin to work.
    begun: Option<Instant>,
}

impl Tried {
    /// Creates an empty record.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns how many different endpoints the request has met.
    #[must_use]
    pub fn len(&self) -> usize {
        self.with(|record| record.serials.len())
    }

    /// Returns `true` if no endpoint got the request yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Counts the time of the current attempt from `at`, if that is later than its begin. Call it before the attempt
    /// ends or is dropped. Each attempt begins without it.
    ///
    /// Use it where an endpoint waits for its caller, e.g. for the body of an upload: the endpoint would look slow
    /// otherwise. The instant has to be one of the clock of the balancer.
    ///
    /// ```
    /// # use std::time::Instant;
    /// # use buttress::balance::Tried;
    /// # fn attempt(tried: &Tried, body_was_sent_at: Instant) {
    /// tried.begun_at(body_was_sent_at);
    /// # }
    /// ```
    pub fn begun_at(&self, at: Instant) {
        self.with(|record| record.begun = Some(at));
    }

    /// Returns when the endpoint could begin, and forgets it.
    pub(super) fn take_begun(&self) -> Option<Instant> {
        self.with(|record| record.begun.take())
    }

    pub(super) fn has(&self, serial: u64) -> bool {
        self.with(|record| record.serials.contains(&serial))
    }

    pub(super) fn add(&self, serial: u64) {
        self.with(|record| {
            if !record.serials.contains(&serial) {
                record.serials.push(serial);
            }
        });
    }

    fn with<T>(&self, f: impl FnOnce(&mut Record) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tried").field("endpoints", &self.len()).finish()
    }
}
