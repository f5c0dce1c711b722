//! [`Standing`]: what the supervision reports to the proxy, the health and the numbers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::watch;

/// Where the service is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Service {
    /// There is no child until this time.
    Down {
        until: Instant,
    },
    /// The child of this number runs, and has not accepted a connection yet.
    Starting {
        child: u64,
    },
    Serving {
        child: u64,
    },
    /// The sidecar ends.
    Stopping,
}

/// Where the service is, and what happened. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    service: Arc<watch::Sender<Service>>,
    starts: Arc<AtomicU64>,
    failures: Arc<AtomicU64>,
}

impl Standing {
    /// The child starts at `now`.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            service: Arc::new(watch::Sender::new(Service::Down { until: now })),
            starts: Arc::default(),
            failures: Arc::default(),
        }
    }

    pub(crate) fn service(&self) -> Service {
        *self.service.borrow()
    }

    pub(crate) fn changes(&self) -> watch::Receiver<Service> {
        self.service.subscribe()
    }

    pub(crate) fn starts(&self) -> u64 {
        self.starts.load(Ordering::Relaxed)
    }

    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    pub(crate) fn started(&self) {
        let child = self.starts.fetch_add(1, Ordering::Relaxed) + 1;
        self.set(Service::Starting { child });
    }

    /// A child ended. It may start again.
    pub(crate) fn ended(&self, now: Instant, failed: bool) {
        self.failures.fetch_add(failed.into(), Ordering::Relaxed);
        self.set(Service::Down { until: now });
    }

    pub(crate) fn down(&self, until: Instant) {
        self.set(Service::Down { until });
    }

    pub(crate) fn stopping(&self) {
        self.service.send_replace(Service::Stopping);
    }

    /// The child of this number accepts connections. Nothing changes if it has ended meanwhile.
    pub(crate) fn serves(&self, child: u64) {
        self.service.send_if_modified(|service| {
            let is_starting = *service == Service::Starting { child };
            if is_starting {
                *service = Service::Serving { child };
            }
            is_starting
        });
    }

    /// A sidecar that stops stays so.
    fn set(&self, next: Service) {
        self.service.send_if_modified(|service| {
            let changes = *service != Service::Stopping && *service != next;
            if changes {
                *service = next;
            }
            changes
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_present_child_serves_and_a_stop_is_final() {
        let now = buttress::VirtualClock::new().clock().now();
        let standing = Standing::new(now);
        standing.started();
        standing.ended(now, true);
        standing.serves(1);
        assert_eq!(standing.service(), Service::Down { until: now });
        standing.started();
        standing.serves(1);
        assert_eq!(standing.service(), Service::Starting { child: 2 });
        standing.serves(2);
        assert_eq!(standing.service(), Service::Serving { child: 2 });
        standing.stopping();
        standing.down(now);
        standing.started();
        assert_eq!(standing.service(), Service::Stopping);
        assert_eq!((standing.starts(), standing.failures()), (3, 1));
    }
}
