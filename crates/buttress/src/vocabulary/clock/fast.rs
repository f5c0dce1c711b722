//! The counter of the CPU as a clock that follows the system clock.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

mod anchors;

use anchors::{Anchors, Readings};

/// A CPU counter, and the system clock that it follows.
#[derive(Debug)]
pub(super) struct Fast {
    anchors: Anchors,
    readings: Machine,
}

impl Fast {
    /// Returns the clock of this process. There is one, because the machine has one counter.
    pub(super) fn of_process() -> &'static Self {
        static FAST: OnceLock<Fast> = OnceLock::new();
        FAST.get_or_init(|| Self::new(Machine::new()))
    }

    fn new(readings: Machine) -> Self {
        Self { anchors: Anchors::new(readings.scale(), &readings), readings }
    }

    #[inline(always)]
    pub(super) fn now(&self) -> Instant {
        let nanos = self.anchors.now(&self.readings);
        super::after(self.readings.origin, Duration::from_nanos(nanos))
    }
}

/// The clocks of this machine.
#[derive(Debug)]
struct Machine {
    counter: quanta::Clock,
    /// The instant of nanosecond 0.
    origin: Instant,
    #[cfg(test)]
    simulated: Option<tests::Simulated>,
}

impl Machine {
    fn new() -> Self {
        Self {
            counter: quanta::Clock::new(),
            origin: Instant::now(),
            #[cfg(test)]
            simulated: None,
        }
    }

    /// Nanoseconds per 2^32 ticks of the counter.
    fn scale(&self) -> u64 {
        #[cfg(test)]
        if self.simulated.is_some() {
            return 1 << 32;
        }
        self.counter.delta_as_nanos(0, 1 << 32)
    }
}

impl Readings for Machine {
    #[inline(always)]
    fn counter(&self) -> u64 {
        #[cfg(test)]
        if let Some(simulated) = &self.simulated {
            return simulated.counter(self.system());
        }
        self.counter.raw()
    }

    fn system(&self) -> u64 {
        #[cfg(test)]
        if self.simulated.is_some() {
            return super::nanos_since(self.origin, tokio::time::Instant::now().into_std());
        }
        super::nanos_since(self.origin, Instant::now())
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests;

#[cfg(all(test, buttress_loom))]
mod tests {
    /// The models do not read the clocks of the machine.
    #[derive(Debug)]
    pub(super) struct Simulated;

    impl Simulated {
        pub(super) fn counter(&self, system: u64) -> u64 {
            system
        }
    }
}
