use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use buttress::InvalidConfig;

use crate::Distribution;

/// Who is served next, and how many may wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Queue {
    pub(super) order: Order,
    pub(super) bound: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    Fifo,
    Lifo,
    CoDel { target: u64, interval: u64 },
}

impl Queue {
    /// First come, first served, without a bound.
    pub const fn fifo() -> Self {
        Self { order: Order::Fifo, bound: u32::MAX }
    }

    /// Last come, first served, without a bound: under overload some are served fast, and the rest not at
    /// all.
    pub const fn lifo() -> Self {
        Self { order: Order::Lifo, bound: u32::MAX }
    }

    /// First come, first served, but once everybody has waited longer than `target` for an `interval`, some
    /// are turned away when their turn comes, and ever more (Nichols and Jacobson, "Controlling Queue
    /// Delay", 2012). They wrote of 5 ms in 100 ms.
    pub const fn codel(target: Duration, interval: Duration) -> Self {
        let (target, interval) =
            (crate::distribution::nanos(target), crate::distribution::nanos(interval));
        Self { order: Order::CoDel { target, interval }, bound: u32::MAX }
    }

    /// At most `waiting` wait; whoever comes then is turned away at once. 0 for no queue at all.
    pub const fn bound(mut self, waiting: u32) -> Self {
        self.bound = waiting;
        self
    }
}

/// What becomes of the work when its caller has left.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Leave {
    /// It is done all the same, for nobody: what most services do, which do not hear that a caller has hung
    /// up. The default.
    #[default]
    Continue,
    /// It is dropped, and the server is free at once.
    Cancel,
}

/// How busy a server is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Load {
    /// Jobs that wait, also those whose caller has left.
    pub waiting: u32,
    /// Jobs that are worked on, the one in question included.
    pub running: u32,
}

pub(super) type Slowdown = Arc<dyn Fn(Load) -> f64 + Send + Sync>;

/// A service under test: what it is, before it runs.
#[derive(Clone)]
#[must_use]
pub struct Server {
    pub(super) name: String,
    pub(super) servers: u32,
    pub(super) queue: Queue,
    pub(super) time: Distribution,
    pub(super) leave: Leave,
    pub(super) errors: f64,
    pub(super) slowdown: Option<Slowdown>,
}

impl Server {
    /// One server, serving in the order of arrival without a bound, that takes `time` for each job.
    pub fn new(name: impl Into<String>, time: impl Into<Distribution>) -> Self {
        Self {
            name: name.into(),
            servers: 1,
            queue: Queue::fifo(),
            time: time.into(),
            leave: Leave::Continue,
            errors: 0.0,
            slowdown: None,
        }
    }

    /// How many jobs are worked on at once. Defaults to 1. At least 1; `u32::MAX` for a service that never
    /// makes anybody wait.
    pub const fn servers(mut self, servers: u32) -> Self {
        self.servers = servers;
        self
    }

    /// Who is served next. Defaults to [`Queue::fifo`].
    pub const fn queue(mut self, queue: Queue) -> Self {
        self.queue = queue;
        self
    }

    /// What becomes of the work when its caller has left. Defaults to [`Leave::Continue`].
    pub const fn leave(mut self, leave: Leave) -> Self {
        self.leave = leave;
        self
    }

    /// The share of jobs that end in an error, after their time. Defaults to none. Between 0 and 1.
    pub const fn errors(mut self, share: f64) -> Self {
        self.errors = share;
        self
    }

    /// Multiplies the time of each job by what `factor` says of the load it begins under: threads that
    /// contend, memory that thrashes, caches that go cold. Defaults to 1 whatever the load. A factor that is
    /// negative or not a number is taken for 1.
    pub fn slowdown(mut self, factor: impl Fn(Load) -> f64 + Send + Sync + 'static) -> Self {
        self.slowdown = Some(Arc::new(factor));
        self
    }

    pub(crate) fn check(&self) -> Result<(), InvalidConfig> {
        if self.servers == 0 {
            return Err(InvalidConfig::new("servers", 0, "at least 1"));
        }
        if !(0.0..=1.0).contains(&self.errors) {
            return Err(InvalidConfig::new("errors", self.errors, "between 0 and 1"));
        }
        Ok(())
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("name", &self.name)
            .field("servers", &self.servers)
            .field("queue", &self.queue)
            .field("time", &self.time)
            .finish_non_exhaustive()
    }
}
