//! The callers of a run, and the tasks that start their requests.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use buttress::{AsRefusal, Clock, Rng, Spawner};
use tower::{Service, ServiceExt};

use super::{Arrivals, Request};
use crate::Distribution;
use crate::measure::{Cause, Recorder, SourceId};

/// The state that all callers of a run share.
pub(crate) struct Callers {
    pub recorder: Arc<Recorder>,
    pub source: SourceId,
    pub clock: Clock,
    pub start: Instant,
    /// How long a caller waits before it leaves, with the random source.
    pub patience: Option<(Distribution, Rng)>,
    pub keys: (u64, Rng),
}

/// A request in flight. It is counted once: with its end, or as abandoned.
struct UnderWay<'a> {
    callers: &'a Callers,
    id: u64,
    began: u64,
    cause: Cause,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let Callers { recorder, source, .. } = self.callers;
        recorder.ended(*source, self.id, self.began, self.cause);
    }
}

impl Callers {
    /// Sends one request and waits for its end.
    async fn ask<S>(&self, service: &mut S, id: u64)
    where
        S: Service<Request>,
        S::Error: AsRefusal,
    {
        let began = self.recorder.began(self.source, id);
        let mut under_way = UnderWay { callers: self, id, began, cause: Cause::Abandoned };
        let key = match &self.keys {
            (1, _) => 0,
            (keys, rng) => rng.between(0, keys - 1),
        };
        let request = Request { id, key };
        let Some((patience, rng)) = &self.patience else {
            under_way.cause = answer(service, request).await;
            return;
        };
        let mut patience = pin!(self.clock.sleep(patience.draw(rng)));
        let mut answer = pin!(answer(service, request));
        let waited = poll_fn(|cx| {
            // An answer that is ready when the patience ends still counts.
            if let Poll::Ready(cause) = answer.as_mut().poll(cx) {
                return Poll::Ready(cause);
            }
            patience.as_mut().poll(cx).map(|()| Cause::Abandoned)
        });
        under_way.cause = waited.await;
    }
}

async fn answer<S>(service: &mut S, request: Request) -> Cause
where
    S: Service<Request>,
    S::Error: AsRefusal,
{
    if let Err(error) = service.ready().await {
        return Cause::of::<(), _>(&Err(error));
    }
    let answered = service.call(request).await;
    Cause::of(&answered)
}

/// Starts a request at each of `arrivals`, regardless of earlier requests.
///
/// It reuses idle callers with their service. A run with millions of requests makes as many tasks
/// as the largest number of concurrent requests.
pub(crate) async fn open_loop<S>(
    callers: Arc<Callers>,
    arrivals: Arrivals,
    service: S,
    spawner: Spawner,
) where
    S: Service<Request> + Clone + Send + 'static,
    S::Error: AsRefusal,
    S::Future: Send,
{
    let pool = Arc::new(Pool::default());
    let Callers { clock, start, .. } = &*callers;
    let mut sleep = pin!(clock.sleep_until(*start));
    for (id, at) in (0..).zip(arrivals) {
        sleep.as_mut().reset(*start + Duration::from_nanos(at));
        sleep.as_mut().await;
        if !pool.hand(id) {
            let seat = pool.seat(id);
            let (callers, pool, mut service) = (callers.clone(), pool.clone(), service.clone());
            spawner.spawn(async move {
                loop {
                    let id = pool.next(&seat).await;
                    callers.ask(&mut service, id).await;
                }
            });
        }
    }
}

/// Runs one client of a closed loop.
pub(crate) async fn closed_loop<S>(
    callers: Arc<Callers>,
    mut service: S,
    think: (Distribution, Rng),
    ids: (u64, u64),
) where
    S: Service<Request>,
    S::Error: AsRefusal,
{
    // The ids of the clients interleave.
    let (mut id, step) = ids;
    loop {
        callers.clock.sleep(think.0.draw(&think.1)).await;
        callers.ask(&mut service, id).await;
        id += step;
    }
}

/// Callers that wait for the next request.
#[derive(Default)]
struct Pool {
    seats: Mutex<Seats>,
}

#[derive(Default)]
struct Seats {
    idle: Vec<usize>,
    seats: Vec<Arc<Seat>>,
    wakers: Vec<Option<Waker>>,
}

/// The place in which a caller receives a request.
struct Seat {
    index: usize,
    /// `NONE` if there is no request. Waking the caller orders the accesses.
    request: AtomicU64,
}

const NONE: u64 = u64::MAX;

impl Pool {
    /// Hands a request to an idle caller. Returns `false` if there is none.
    fn hand(&self, id: u64) -> bool {
        let mut seats = self.lock();
        let Some(index) = seats.idle.pop() else { return false };
        if let (Some(seat), Some(Some(waker))) = (seats.seats.get(index), seats.wakers.get(index)) {
            seat.request.store(id, Ordering::Release);
            // Under the lock, which saves a clone. The waker of a caller never takes this lock.
            waker.wake_by_ref();
        }
        true
    }

    /// Returns a seat for a new caller, with its first request.
    fn seat(&self, id: u64) -> Arc<Seat> {
        let mut seats = self.lock();
        let seat = Arc::new(Seat { index: seats.seats.len(), request: AtomicU64::new(id) });
        seats.seats.push(seat.clone());
        seats.wakers.push(None);
        seat
    }

    /// Waits for the next request of the caller in this seat.
    async fn next(&self, seat: &Seat) -> u64 {
        let mut waits = false;
        poll_fn(|cx| {
            let id = seat.request.load(Ordering::Acquire);
            if id != NONE {
                seat.request.store(NONE, Ordering::Relaxed);
                return Poll::Ready(id);
            }
            let mut seats = self.lock();
            match seats.wakers.get_mut(seat.index) {
                Some(Some(waker)) => waker.clone_from(cx.waker()),
                Some(empty) => *empty = Some(cx.waker().clone()),
                None => {}
            }
            if !std::mem::replace(&mut waits, true) {
                seats.idle.push(seat.index);
            }
            Poll::Pending
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
