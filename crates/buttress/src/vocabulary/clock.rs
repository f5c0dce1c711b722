//! The only file that reads time or waits on it.
#![allow(clippy::disallowed_methods)]

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use pin_project_lite::pin_project;

#[cfg(feature = "fast-clock")]
mod fast;
mod virtual_clock;

pub use virtual_clock::VirtualClock;

/// A source of time of a layer, which reads it and waits on it. Cheap to clone; passed in a pattern's
/// `Config`.
///
/// The default is tokio's clock. In production it is the real clock. Under
/// `#[tokio::test(start_paused = true)]` it stands still or jumps, so a paused clock drives every
/// layer exactly. A [`VirtualClock`] moves only by hand or by a simulator. With the feature
/// `fast-clock` there is also `Clock::fast`, for production only.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// use std::time::Duration;
/// let clock = buttress::Clock::default();
/// let start = clock.now();
/// clock.sleep(Duration::from_secs(3600)).await; // returns without waiting: the clock is paused
/// assert_eq!(clock.now() - start, Duration::from_secs(3600));
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Clock {
    source: Source,
}

#[derive(Clone, Debug, Default)]
enum Source {
    #[default]
    Tokio,
    Virtual(Arc<virtual_clock::Node>),
    #[cfg(feature = "fast-clock")]
    Fast(&'static fast::Fast),
}

impl Clock {
    /// Returns a clock that reads the counter of the CPU, several times faster than the system
    /// clock.
    ///
    /// Choose it in production for layers that read the clock once per call: rate limiters, time
    /// limits, and circuit breakers with slow calls or a time window. It speeds up no other part of
    /// a call.
    ///
    /// The counter drifts, so the first read in each millisecond compares the counter with the
    /// system clock (`std::time::Instant::now`) and starts again from the system clock. Each read
    /// is within **1 microsecond** of the system clock if the counter drifts by at most 100 ppm,
    /// for as long as the process runs. Two exceptions are bounded as well:
    /// - The operating system may suspend a thread while it compares the clocks. The fast clock
    ///   then stays behind by the length of the suspension, for at most 1 millisecond after it.
    /// - The counter may jump when a virtual machine is suspended or moved. The fast clock is then
    ///   at most 1 millisecond ahead of the system clock, and stands still until the system clock
    ///   has reached it.
    ///
    /// Time never goes back on any thread, provided that the counter is the same on all cores. On a
    /// CPU whose counter is not invariant, the fast clock reads the system clock each time.
    ///
    /// Sleeps and timers are tokio's. `now` does not stop on a paused tokio clock, so tests need
    /// [`Clock::default`] or a [`VirtualClock`].
    ///
    /// The first call in a process measures the counter. It blocks its thread for up to 200
    /// milliseconds, so call it at start-up. Later calls and clones are free: all fast clocks of a
    /// process share one measurement.
    ///
    /// ```
    /// use buttress::{Clock, rate_limit};
    /// # fn main() -> Result<(), buttress::InvalidConfig> {
    /// let limiter = rate_limit::Config::new().clock(Clock::fast()).build()?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "fast-clock")]
    #[must_use]
    pub fn fast() -> Self {
        Self { source: Source::Fast(fast::Fast::of_process()) }
    }

    fn of_node(node: Arc<virtual_clock::Node>) -> Self {
        Self { source: Source::Virtual(node) }
    }

    /// Returns what this clock is, if it has another time than `time`.
    #[cold]
    pub(crate) fn foreign_to(&self, time: &VirtualClock) -> Option<&'static str> {
        match &self.source {
            Source::Tokio => Some("tokio's clock"),
            Source::Virtual(node) => (!time.has_time_of(node)).then_some("another virtual clock"),
            #[cfg(feature = "fast-clock")]
            Source::Fast(_) => Some("the fast clock"),
        }
    }

    /// Returns the current instant of this clock.
    ///
    /// The instant never goes back within one runtime. Code that keeps instants across runtimes
    /// must accept an earlier one.
    #[must_use]
    #[inline]
    pub fn now(&self) -> Instant {
        match &self.source {
            Source::Tokio => tokio::time::Instant::now().into_std(),
            Source::Virtual(node) => node.now(),
            #[cfg(feature = "fast-clock")]
            Source::Fast(fast) => fast.now(),
        }
    }

    /// Returns the wall time since 1970 in UTC, for stored times and dates.
    ///
    /// The wall time moves with [`now`](Self::now): it stands still on a paused clock and moves
    /// with an advanced one. On a running clock it follows corrections of the system clock, at most a
    /// millisecond late.
    #[must_use]
    pub fn unix(&self) -> Duration {
        self.unix_at(self.now())
    }

    /// Returns the wall time at an instant of this clock, according to the current difference of both.
    ///
    /// For code that has read [`now`](Self::now) already. See [`unix`](Self::unix).
    #[must_use]
    pub fn unix_at(&self, at: Instant) -> Duration {
        match &self.source {
            Source::Virtual(node) => moved(node.unix(), node.now(), at),
            _ => system_unix(at),
        }
    }

    /// Returns a future that completes at `deadline`, or immediately if `deadline` has passed.
    /// tokio's clock rounds a deadline up to the next millisecond.
    ///
    /// # Panics
    /// Panics on tokio's clock, outside of a runtime that has its time driver enabled.
    #[must_use = "a sleep does nothing until it is polled"]
    #[inline(always)]
    pub fn sleep_until(&self, deadline: Instant) -> Sleep {
        let timer = match &self.source {
            Source::Virtual(node) => Timer::Virtual { timer: node.timer(deadline) },
            _ => Timer::Tokio { timer: tokio::time::sleep_until(deadline.into()) },
        };
        Sleep { timer }
    }

    /// Returns a future that completes after `duration`. See [`sleep_until`](Self::sleep_until) for
    /// rounding.
    ///
    /// # Panics
    /// Panics on tokio's clock, outside of a runtime that has its time driver enabled.
    #[must_use = "a sleep does nothing until it is polled"]
    pub fn sleep(&self, duration: Duration) -> Sleep {
        self.sleep_until(after(self.now(), duration))
    }

    /// Waits for `work`, and returns its output, also if `work` is ready exactly at `limit`. After `limit` it drops
    /// `work` and returns `None`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// use std::time::Duration;
    /// let clock = buttress::Clock::default();
    /// let limit = Duration::from_secs(1);
    /// assert_eq!(clock.within(limit, async { 7 }).await, Some(7));
    /// assert_eq!(clock.within(limit, std::future::pending::<u32>()).await, None);
    /// # }
    /// ```
    ///
    /// # Panics
    /// Panics on tokio's clock, outside of a runtime that has its time driver enabled.
    ///
    /// # Cancel safety
    /// Dropping the future drops `work`.
    pub async fn within<F: Future>(&self, limit: Duration, work: F) -> Option<F::Output> {
        let mut work = pin!(work);
        let ends = after(self.now(), limit);
        // Boxed, and created when the work is first pending: much work ends immediately.
        let mut timer = None;
        poll_fn(|cx| {
            if let Poll::Ready(output) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            let timer = timer.get_or_insert_with(|| Box::pin(self.sleep_until(ends)));
            timer.as_mut().poll(cx).map(|()| None)
        })
        .await
    }
}

pin_project! {
    /// A future that completes at a deadline of a [`Clock`]. Dropping it cancels the timer.
    #[derive(Debug)]
    #[must_use = "a sleep does nothing until it is polled"]
    pub struct Sleep {
        #[pin]
        timer: Timer,
    }
}

pin_project! {
    #[project = TimerProj]
    #[derive(Debug)]
    enum Timer {
        Tokio { #[pin] timer: tokio::time::Sleep },
        Virtual { timer: virtual_clock::Timer },
    }
}

impl Sleep {
    /// Moves the deadline. The sleep must be polled again to be woken at the new one.
    pub fn reset(self: Pin<&mut Self>, deadline: Instant) {
        match self.project().timer.project() {
            TimerProj::Tokio { timer } => timer.reset(deadline.into()),
            TimerProj::Virtual { timer } => timer.reset(deadline),
        }
    }
}

impl Future for Sleep {
    type Output = ();

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.project().timer.project() {
            TimerProj::Tokio { timer } => {
                if tokio::task::coop::has_budget_remaining() {
                    return timer.poll(cx);
                }
                poll_without_budget(timer, cx)
            }
            TimerProj::Virtual { timer } => match timer.poll(cx.waker()) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            },
        }
    }
}

/// Polls a timer outside of tokio's cooperative budget. A service that uses the whole budget on
/// every poll must not hide the end of the limit.
#[cold]
fn poll_without_budget(timer: Pin<&mut tokio::time::Sleep>, cx: &mut Context<'_>) -> Poll<()> {
    std::pin::pin!(tokio::task::unconstrained(timer)).poll(cx)
}

/// An instant of the system's monotonic clock, and the wall time then.
#[derive(Clone, Copy)]
struct Anchor {
    at: Instant,
    wall: Duration,
    /// Until when the wall clock is not read again.
    fresh_until: Instant,
}

/// Returns the wall time at an instant of the system clock, or of tokio's clock.
fn system_unix(at: Instant) -> Duration {
    static ANCHOR: Mutex<Option<Anchor>> = Mutex::new(None);
    /// The smallest correction of the system clock that is followed. Smaller differences are
    /// the time between two reads. Following them would make a paused clock jitter.
    const CORRECTION: Duration = Duration::from_millis(5);
    /// How long the wall clock is not read again.
    const FRESH: Duration = Duration::from_millis(1);

    let lock = || ANCHOR.lock().unwrap_or_else(PoisonError::into_inner);
    let known = *lock();
    if let Some(anchor) = known.filter(|anchor| at < anchor.fresh_until) {
        return moved(anchor.wall, anchor.at, at);
    }
    let before = Instant::now();
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // A thread that was suspended between the two reads cannot see a correction.
    let gap = before.elapsed();
    let fresh_until = after(before, FRESH);
    let mut anchor = lock();
    let is_right =
        |anchor: &Anchor| wall.abs_diff(moved(anchor.wall, anchor.at, before)) < CORRECTION + gap;
    let anchor = match *anchor {
        Some(known) if is_right(&known) => anchor.insert(Anchor { fresh_until, ..known }),
        _ => anchor.insert(Anchor { at: before, wall, fresh_until }),
    };
    moved(anchor.wall, anchor.at, at)
}

/// Returns the wall time at `to`, if it is `wall` at `from`.
fn moved(wall: Duration, from: Instant, to: Instant) -> Duration {
    match to.checked_duration_since(from) {
        Some(later) => wall.saturating_add(later),
        None => wall.saturating_sub(from.saturating_duration_since(to)),
    }
}

/// Returns `start + duration`, or an instant 30 years ahead if an instant cannot hold the sum.
pub(crate) fn after(start: Instant, duration: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    start.checked_add(duration).or_else(|| start.checked_add(FAR)).unwrap_or(start)
}

/// Returns the nanoseconds from `anchor` to `now`, or 0 if `now` is before `anchor`.
#[inline]
pub(crate) fn nanos_since(anchor: Instant, now: Instant) -> u64 {
    match now.checked_duration_since(anchor) {
        Some(since) => to_nanos(since),
        None => 0,
    }
}

/// Returns a duration in nanoseconds, at most `u64::MAX` (about 584 years).
#[inline]
pub(crate) const fn to_nanos(duration: Duration) -> u64 {
    // One comparison is cheaper than saturating at each step.
    const MOST: u64 = u64::MAX / 1_000_000_000;
    let seconds = duration.as_secs();
    if seconds >= MOST {
        return u64::MAX;
    }
    seconds * 1_000_000_000 + duration.subsec_nanos() as u64
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn wall_time_moves_with_the_paused_clock_only() {
        let clock = Clock::default();
        let start = clock.unix();
        assert_eq!(clock.unix(), start);
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(clock.unix(), start + Duration::from_secs(90));
    }

    #[tokio::test(start_paused = true)]
    async fn the_wall_time_of_an_instant_lies_as_far_from_the_present_one() {
        let far = Duration::from_secs(90);
        let virtual_clock = VirtualClock::new();
        virtual_clock.set_skew(7_000_000_000);
        virtual_clock.advance(far);
        tokio::time::advance(far).await;
        for clock in [Clock::default(), virtual_clock.clock()] {
            let (now, wall) = (clock.now(), clock.unix());
            assert_eq!(clock.unix_at(now), wall);
            assert_eq!(clock.unix_at(now + far), wall + far);
            assert_eq!(clock.unix_at(now - far), wall - far);
        }
        let least = Duration::from_secs(1_704_067_200 + 7 + 90);
        assert_eq!(virtual_clock.clock().unix(), least);
        let early = virtual_clock.clock().now() - Duration::from_secs(91);
        let clock = VirtualClock::starting_at(Duration::from_millis(5)).clock();
        assert_eq!(clock.unix_at(early), Duration::ZERO, "before 1970");
    }

    #[test]
    fn times_saturate() {
        let now = Instant::now();
        assert_eq!(nanos_since(now + Duration::from_secs(1), now), 0);
        assert!(after(now, Duration::MAX) > now + Duration::from_secs(3600));
        assert_eq!(to_nanos(Duration::MAX), u64::MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_spent_cooperative_budget_does_not_hide_the_timer() {
        // tokio's own Sleep stays pending here and wakes itself once the task has used its budget.
        while tokio::task::coop::has_budget_remaining() {
            tokio::task::coop::consume_budget().await;
            if !tokio::task::coop::has_budget_remaining() {
                break;
            }
        }
        let mut sleep = std::pin::pin!(Clock::default().sleep(Duration::ZERO));
        let done = std::future::poll_fn(|cx| Poll::Ready(sleep.as_mut().poll(cx).is_ready())).await;
        assert!(done);
    }
}
