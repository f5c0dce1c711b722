//! [`Simulation`]: the run of a simulator on this thread. It finds parts without the clock of the run, when they are
//! made. No call of a layer asks for it.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::Arc;

use super::observer::Observer;
use crate::vocabulary::clock::{Clock, VirtualClock};
use crate::vocabulary::invalid_config::InvalidConfig;

thread_local! {
    static RUN: RefCell<Option<Run>> = const { RefCell::new(None) };
}

type MakeObserver = Box<dyn Fn() -> Arc<dyn Observer>>;

struct Run {
    time: VirtualClock,
    observer: MakeObserver,
    /// The first part with another clock.
    refused: Option<InvalidConfig>,
}

/// A run of a simulator on this thread, until it is dropped. A run inside of another one ends before it.
///
/// The simulator uses it. It is no part of the API.
#[must_use]
#[derive(Debug)]
pub struct Simulation {
    outer: Outer,
    /// The run belongs to its thread.
    thread: PhantomData<*const ()>,
}

struct Outer(Option<Run>);

impl std::fmt::Debug for Outer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Outer").field(&self.0.is_some()).finish()
    }
}

impl Simulation {
    /// Begins a run over `time`. A layer that is made without an observer gets one from `observer`.
    pub fn begin(time: &VirtualClock, observer: impl Fn() -> Arc<dyn Observer> + 'static) -> Self {
        let run = Run { time: time.clone(), observer: Box::new(observer), refused: None };
        Self { outer: Outer(RUN.replace(Some(run))), thread: PhantomData }
    }

    /// Returns whether every part had the clock of the run.
    ///
    /// # Errors
    /// Returns an error that names the first part with another clock.
    pub fn check(&self) -> Result<(), InvalidConfig> {
        let refused = RUN.with_borrow(|run| run.as_ref().and_then(|run| run.refused.clone()));
        refused.map_or(Ok(()), Err)
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        drop(RUN.replace(self.outer.0.take()));
    }
}

/// Refuses the clock of a new part, if a simulator runs on this thread and the clock is not the clock of the run. The
/// simulator reports it, because not every constructor can return an error.
///
/// The crates of the workspace use it. It is no part of the API.
#[cold]
pub fn check_clock(part: &str, clock: &Clock) {
    in_run(|run| {
        let Some(foreign) = clock.foreign_to(&run.time) else { return };
        run.refused.get_or_insert_with(|| {
            let bound = "the clock of the world, `.clock(world.clock())`";
            InvalidConfig::new("clock", foreign, bound).of_layer(part)
        });
    });
}

/// Returns an observer for a layer that was made without one. `None` outside of a simulation.
#[cold]
pub(super) fn observer() -> Option<Arc<dyn Observer>> {
    in_run(|run| (run.observer)())
}

fn in_run<T>(work: impl FnOnce(&mut Run) -> T) -> Option<T> {
    // A part can be made while the thread ends, or by the code that makes an observer.
    RUN.try_with(|run| run.try_borrow_mut().ok()?.as_mut().map(work)).ok().flatten()
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::fallback::FallbackLayer;
    use crate::health::Health;
    use crate::{Event, Name, rate_limit};

    struct Deaf;

    impl Observer for Deaf {
        fn on_event(&self, _layer: Name, _event: &Event) {}
    }

    fn begin(time: &VirtualClock) -> Simulation {
        Simulation::begin(time, || Arc::new(Deaf))
    }

    #[test]
    fn a_run_refuses_every_clock_but_its_own_and_names_the_first_part() {
        let time = VirtualClock::new();
        let run = begin(&time);
        let limiter = |clock| rate_limit::Config::new().clock(clock).build().unwrap();
        let _own = (limiter(time.clock()), limiter(time.node().clock()));
        assert_eq!(run.check(), Ok(()));
        let _other =
            rate_limit::Config::new().name("api").clock(VirtualClock::new().clock()).build();
        let _later = limiter(Clock::default());
        let text = r#""api": clock: another virtual clock is not the clock of the world, `.clock(world.clock())`"#;
        assert_eq!(run.check().unwrap_err().to_string(), text);
    }

    #[test]
    fn a_run_ends_with_its_guard_also_in_a_panic() {
        let time = VirtualClock::new();
        let outer = begin(&time);
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let _inner = begin(&VirtualClock::new());
            panic!("a build that panics");
        }));
        assert!(ended.is_err());
        let _own = rate_limit::Config::new().clock(time.clock()).build().unwrap();
        assert_eq!(outer.check(), Ok(()), "the inner run has ended");
        drop(outer);
        assert!(observer().is_none());
        check_clock("none", &Clock::default());
        assert_eq!(begin(&time).check(), Ok(()), "no run, no refusal");
    }

    #[test]
    fn a_constructor_without_an_error_is_found_too() {
        let time = VirtualClock::new();
        let run = begin(&time);
        let _reads_no_time = FallbackLayer::value(0_u32);
        assert_eq!(run.check(), Ok(()));
        let _health = Health::new("orders", "1.0");
        assert_eq!(run.check().unwrap_err().layer(), Some("orders"));
    }
}
