use super::cause::Cause;
use super::histogram::Histogram;

/// The latency of requests, with a separate histogram per cause.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Latencies([Histogram; Cause::ALL.len()]);

impl Latencies {
    pub(crate) const fn new() -> Self {
        Self([const { Histogram::new() }; Cause::ALL.len()])
    }

    #[inline]
    pub(crate) fn record(&mut self, cause: Cause, nanos: u64) {
        if let Some(latency) = self.0.get_mut(cause as usize) {
            latency.record_nanos(nanos);
        }
    }

    pub(crate) const fn of(&self, cause: Cause) -> &Histogram {
        let Self([ok, error, timeout, limited, open, full, abandoned]) = self;
        match cause {
            Cause::Ok => ok,
            Cause::Error => error,
            Cause::Timeout => timeout,
            Cause::Limited => limited,
            Cause::Open => open,
            Cause::Full => full,
            Cause::Abandoned => abandoned,
        }
    }
}
