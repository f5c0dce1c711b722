use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use buttress::{Name, VirtualClock};

use super::cause::{Cause, Ends};
use super::histogram::Histogram;
use super::recorded::Recorded;
use super::trace::{Event, Trace, What};
use super::window::{StationWindow, Window};
use crate::distribution::nanos;
use crate::replay::Violation;

/// The number of a name in the trace.
pub(crate) type SourceId = u32;

/// The names under which unnamed layers report: their patterns. Their observers distinguish two
/// such layers.
const UNNAMED: [&str; 13] = [
    "aggregate",
    "balance",
    "bulkhead",
    "circuit_breaker",
    "fallback",
    "gateway",
    "idempotency",
    "rate_limit",
    "retry",
    "route",
    "shadow",
    "split",
    "time_limit",
];

type Check = Box<dyn FnMut(&Event) -> Result<(), String> + Send>;

/// Records everything that happens in a run, in memory that does not grow with the number of
/// requests.
pub(crate) struct Recorder {
    time: VirtualClock,
    /// Whether jobs of stations are recorded too.
    full: bool,
    /// Whether the run is over. Then only the ends of requests are counted, because all other
    /// events come from dismantling the simulation.
    over: AtomicBool,
    checked: AtomicBool,
    checks: Mutex<Vec<(String, Check)>>,
    inner: Mutex<Inner>,
}

struct Inner {
    trace: Trace,
    sources: Vec<Name>,
    recorded: Recorded,
    open: Window,
}

const MOST_VIOLATIONS: usize = 8;

impl Recorder {
    pub(crate) fn new(time: &VirtualClock, full: bool, keep: bool, warm: bool) -> Arc<Self> {
        let recorded = Recorded::nothing(warm.then_some(0));
        let inner = Inner {
            trace: Trace::new(keep),
            sources: Vec::new(),
            recorded,
            open: empty(Duration::ZERO),
        };
        Arc::new(Self {
            time: time.clone(),
            full: full || keep,
            over: AtomicBool::new(false),
            checked: AtomicBool::new(false),
            checks: Mutex::default(),
            inner: Mutex::new(inner),
        })
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.full
    }

    /// Returns the number of `name`, the same each time.
    pub(crate) fn source(&self, name: &str) -> SourceId {
        self.lock().source(name)
    }

    pub(crate) fn check(&self, name: String, check: Check) {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner).push((name, check));
        self.checked.store(true, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn began(&self, source: SourceId, id: u64) -> u64 {
        let now = self.now();
        let mut inner = self.lock();
        inner.open.offered += 1;
        if inner.recorded.warm_since.is_some() {
            inner.recorded.began += 1;
        }
        self.push(inner, now, What::Began, source, id);
        now
    }

    #[inline]
    pub(crate) fn ended(&self, source: SourceId, id: u64, began: u64, cause: Cause) {
        let now = self.now();
        let mut inner = self.lock();
        // The totals count requests that began after the warm-up, so that their ends add up.
        let counts = inner.recorded.counts(began);
        if self.over.load(Ordering::Relaxed) {
            // The end of the run interrupted the request, so it has no cause.
            inner.recorded.unfinished += u64::from(counts);
        } else {
            inner.open.ends.add(cause);
            if cause == Cause::Ok {
                inner.open.latency.record_nanos(now - began);
            }
            if counts {
                inner.recorded.ends.add(cause);
                inner.recorded.latencies.record(cause, now - began);
            }
        }
        self.push(inner, now, What::Ended(cause), source, id);
    }

    /// Records an event other than the end of a request.
    pub(crate) fn event(&self, source: SourceId, what: What, id: u64) {
        if self.over.load(Ordering::Relaxed) {
            return;
        }
        let now = self.now();
        self.push(self.lock(), now, what, source, id);
    }

    pub(crate) fn layer(&self, watch: u32, layer: Name, event: &buttress::Event) {
        if self.over.load(Ordering::Relaxed) {
            return;
        }
        let now = self.now();
        let mut inner = self.lock();
        let name = match (layer.as_str(), watch) {
            (name, 1..) if UNNAMED.contains(&name) => Cow::Owned(format!("{name} {}", watch + 1)),
            (name, _) => Cow::Borrowed(name),
        };
        let source = inner.source(&name);
        let what = match event {
            buttress::Event::Refused(error) => {
                inner.open.refusals += 1;
                What::Refused(error.kind())
            }
            buttress::Event::TimedOut(_) => {
                inner.open.timeouts += 1;
                What::TimedOut
            }
            buttress::Event::CircuitChanged { from, to, circuit } => {
                inner.recorded.changed((source, *circuit), &name, now, (*from, *to));
                What::CircuitChanged(*to)
            }
            buttress::Event::Retrying { attempt, .. } => {
                inner.open.retries += 1;
                if inner.recorded.warm_since.is_some() {
                    inner.recorded.retries += 1;
                }
                What::Retrying(*attempt)
            }
            buttress::Event::RetriesExhausted { .. } => What::Exhausted,
            buttress::Event::FellBack => What::FellBack(false),
            buttress::Event::FallbackFailed => What::FellBack(true),
            buttress::Event::Reconfigured => What::Reconfigured,
            _ => What::Other,
        };
        self.push(inner, now, what, source, 0);
    }

    #[inline]
    fn push(&self, mut inner: MutexGuard<'_, Inner>, now: u64, what: What, source: u32, id: u64) {
        inner.trace.push(now, what, source, id);
        let checked = self.checked.load(Ordering::Relaxed);
        if checked || inner.trace.keeps() {
            self.report(inner, now, what, source, id);
        }
    }

    #[inline(never)]
    fn report(&self, mut inner: MutexGuard<'_, Inner>, now: u64, what: What, source: u32, id: u64) {
        let name = inner.sources.get(source as usize).copied().unwrap_or_default();
        let event = Event { at: Duration::from_nanos(now), what, source: name.as_str(), id };
        inner.trace.keep(event);
        let number = inner.trace.count();
        drop(inner);
        // Events that a check causes are not checked.
        let Ok(mut checks) = self.checks.try_lock() else { return };
        for (name, check) in checks.iter_mut() {
            if let Err(what) = check(&event) {
                let violation = Violation { invariant: name.clone(), event, number, what };
                let found = &mut self.lock().recorded.violations;
                if found.len() < MOST_VIOLATIONS {
                    found.push(violation);
                }
            }
        }
    }

    /// Starts counting the totals.
    pub(crate) fn warm_up_is_over(&self) {
        let now = self.now();
        self.lock().recorded.warm_since = Some(now);
    }

    pub(crate) fn close_window(&self, stations: Vec<StationWindow>, gauges: Vec<f64>) {
        let now = Duration::from_nanos(self.now());
        let mut inner = self.lock();
        let next = empty(now);
        let mut closed = std::mem::replace(&mut inner.open, next);
        closed.length = now - closed.start;
        (closed.stations, closed.gauges) = (stations, gauges);
        // The wide histogram is reused; the window keeps a narrow copy.
        let mut wide = std::mem::take(&mut closed.latency);
        closed.latency = wide.trimmed();
        wide.clear();
        inner.open.latency = wide;
        inner.recorded.windows.push(closed);
    }

    /// Whether time has passed since the last window was closed.
    pub(crate) fn has_open_window(&self) -> bool {
        Duration::from_nanos(self.now()) > self.lock().open.start
    }

    /// Ends the recording; the requests in flight are about to be dropped.
    pub(crate) fn stop(&self) {
        self.over.store(true, Ordering::Relaxed);
        let checks =
            std::mem::take(&mut *self.checks.lock().unwrap_or_else(PoisonError::into_inner));
        self.checked.store(false, Ordering::Relaxed);
        drop(checks);
    }

    /// Returns the records. Ends after the last window are added to that window.
    pub(crate) fn finish(&self) -> Recorded {
        let mut inner = self.lock();
        let late = std::mem::replace(&mut inner.open, empty(Duration::ZERO));
        let mut recorded = std::mem::replace(&mut inner.recorded, Recorded::nothing(None));
        recorded.trace = std::mem::replace(&mut inner.trace, Trace::new(false));
        if let Some(last) = recorded.windows.last_mut() {
            last.ends.merge(&late.ends);
            last.offered += late.offered;
        }
        recorded
    }

    #[inline]
    fn now(&self) -> u64 {
        nanos(self.time.elapsed())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn source(&mut self, name: &str) -> SourceId {
        match self.sources.iter().position(|known| known.as_str() == name) {
            Some(index) => index as SourceId,
            None => {
                self.sources.push(Name::from(name.to_owned()));
                self.sources.len() as SourceId - 1
            }
        }
    }
}

fn empty(start: Duration) -> Window {
    Window {
        start,
        length: Duration::ZERO,
        offered: 0,
        ends: Ends::default(),
        latency: Histogram::new(),
        retries: 0,
        refusals: 0,
        timeouts: 0,
        stations: Vec::new(),
        gauges: Vec::new(),
    }
}
