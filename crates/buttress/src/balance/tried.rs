use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

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
pub struct Tried {
    /// The numbers of the endpoints. A set of bits would need a bound for them, or confuse two.
    serials: Arc<Mutex<Vec<u64>>>,
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
        self.with(|serials| serials.len())
    }

    /// Returns `true` if no endpoint got the request yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn has(&self, serial: u64) -> bool {
        self.with(|serials| serials.contains(&serial))
    }

    pub(super) fn add(&self, serial: u64) {
        self.with(|serials| {
            if !serials.contains(&serial) {
                serials.push(serial);
            }
        });
    }

    fn with<T>(&self, f: impl FnOnce(&mut Vec<u64>) -> T) -> T {
        f(&mut self.serials.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tried").field("endpoints", &self.len()).finish()
    }
}
