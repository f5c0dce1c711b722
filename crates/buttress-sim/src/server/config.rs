use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use buttress::__const_setters as const_setters;
use buttress::InvalidConfig;

use crate::Distribution;

/// A queue discipline and a bound on the queue.
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
    /// Serves in the order of arrival, without a bound.
    pub const fn fifo() -> Self {
        Self { order: Order::Fifo, bound: u32::MAX }
    }

    /// Serves the last arrival first, without a bound. Under overload some callers are served fast
    /// and the others never.
    pub const fn lifo() -> Self {
        Self { order: Order::Lifo, bound: u32::MAX }
    }

    /// Serves in the order of arrival until all jobs have waited longer than `target` for an
    /// `interval`. Then it rejects some jobs when their turn comes, and more over time (Nichols and
    /// Jacobson, "Controlling Queue Delay", 2012). The paper uses 5 ms in 100 ms.
    pub const fn codel(target: Duration, interval: Duration) -> Self {
        let (target, interval) =
            (crate::distribution::nanos(target), crate::distribution::nanos(interval));
        Self { order: Order::CoDel { target, interval }, bound: u32::MAX }
    }

    const_setters! {
        /// Lets at most `waiting` jobs wait, and rejects further calls immediately. 0 means no queue.
        /// Default: no bound.
        bound(waiting: u32);
    }
}

/// The effect of a caller that leaves on its job.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Leave {
    /// The server finishes the job. Most services do, because they do not notice that a caller has
    /// disconnected. The default.
    #[default]
    Continue,
    /// The server drops the job and is free immediately.
    Cancel,
}

/// The load of a station.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Load {
    /// Jobs that wait, including those whose caller has left.
    pub waiting: u32,
    /// Jobs in service, including the job in question.
    pub running: u32,
}

pub(super) type Slowdown = Arc<dyn Fn(Load) -> f64 + Send + Sync>;

/// The description of a service under test.
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
    /// Creates a service with one server and an unbounded queue in the order of arrival. Each job
    /// takes `time`.
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

    const_setters! {
        /// Sets the number of concurrent jobs. Default: 1. At least 1. With `u32::MAX` no job ever
        /// waits.
        servers(servers: u32);

        /// Sets the queue. Default: [`Queue::fifo`].
        queue(queue: Queue);

        /// Sets the effect of a caller that leaves. Default: [`Leave::Continue`].
        leave(leave: Leave);

        /// Sets the share of jobs that end in an error, after their time. Default: 0. Between 0 and 1.
        errors(share: f64);
    }

    /// Multiplies the time of each job by the factor that `factor` returns for the load at its
    /// beginning: contending threads, thrashing memory, cold caches. Default: 1 for every load. A
    /// factor that is negative or not a number counts as 1.
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
