//! Layers that break the contract, one way each: every probe must fail with one of them.

use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use tower::{Layer, Service};

use super::{REFUSED, Subject, probes, refusals};
use crate::support::{AppError, Ask};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// None: every probe passes.
    Sound,
    CallsAFreshClone,
    IgnoresReadiness,
    ForgetsTheWaker,
    LeaksWhatIsDropped,
    WakesItself,
    WakesOneOfMany,
    StateInTheService,
    ReservesWhatItRefuses,
    SaysNothing,
}

/// Admits one call at a time and makes others wait, with one fault.
#[derive(Clone)]
pub(crate) struct BrokenLayer {
    fault: Fault,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    active: AtomicUsize,
    calls: AtomicUsize,
    waiting: Mutex<Vec<Waker>>,
}

impl BrokenLayer {
    pub(crate) fn new(fault: Fault) -> Self {
        Self { fault, state: Arc::default() }
    }

    fn subject(fault: Fault) -> Subject<Self> {
        let layer = Self::new(fault);
        let (gauges, counted) = (layer.state.clone(), layer.state.clone());
        Subject::new(layer, move || counted.calls.load(Ordering::SeqCst) as u64)
            .gauges(move || gauges.active.load(Ordering::SeqCst))
    }
}

impl fmt::Debug for BrokenLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.fault == Fault::SaysNothing { "BrokenLayer" } else { "Handle" })
    }
}

impl<S> Layer<S> for BrokenLayer {
    type Service = Broken<S>;

    fn layer(&self, inner: S) -> Broken<S> {
        let fault = self.fault;
        let state = match fault {
            Fault::StateInTheService => Arc::default(),
            _ => self.state.clone(),
        };
        Broken { inner, fault, state }
    }
}

#[derive(Clone)]
pub(crate) struct Broken<S> {
    inner: S,
    fault: Fault,
    state: Arc<State>,
}

impl<S: fmt::Debug> fmt::Debug for Broken<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S> Service<Ask> for Broken<S>
where
    S: Service<Ask, Response = u32, Error = AppError, Future: Send + 'static> + Clone,
{
    type Response = u32;
    type Error = AppError;
    type Future = Pin<Box<dyn Future<Output = Result<u32, AppError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), AppError>> {
        let inner = match self.fault {
            Fault::IgnoresReadiness => return Poll::Ready(Ok(())),
            Fault::ForgetsTheWaker => {
                self.inner.poll_ready(&mut Context::from_waker(Waker::noop()))
            }
            _ => self.inner.poll_ready(cx),
        };
        if inner.is_ready() && self.state.active.load(Ordering::SeqCst) > 0 {
            let mut waiting = self.state.waiting.lock().unwrap();
            if self.fault == Fault::WakesOneOfMany {
                waiting.clear();
            }
            waiting.push(cx.waker().clone());
            return Poll::Pending;
        }
        inner
    }

    fn call(&mut self, request: Ask) -> Self::Future {
        self.state.calls.fetch_add(1, Ordering::SeqCst);
        if self.fault == Fault::ReservesWhatItRefuses {
            return Box::pin(async { Ok(REFUSED) });
        }
        let active = Active { state: self.state.clone(), fault: self.fault, over: false };
        self.state.active.fetch_add(1, Ordering::SeqCst);
        let fault = self.fault;
        let inner = match fault {
            Fault::CallsAFreshClone => self.inner.clone().call(request),
            _ => self.inner.call(request),
        };
        Box::pin(async move {
            let mut active = active;
            let mut inner = pin!(inner);
            let result = poll_fn(|cx| {
                if fault == Fault::WakesItself {
                    cx.waker().wake_by_ref();
                }
                inner.as_mut().poll(cx)
            })
            .await;
            active.over = true;
            result
        })
    }
}

struct Active {
    state: Arc<State>,
    fault: Fault,
    over: bool,
}

impl Drop for Active {
    fn drop(&mut self) {
        if self.over || self.fault != Fault::LeaksWhatIsDropped {
            self.state.active.fetch_sub(1, Ordering::SeqCst);
            let waiting = std::mem::take(&mut *self.state.waiting.lock().unwrap());
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

/// Whether a probe panics, at any await.
async fn fails(probe: impl Future<Output = ()>) -> bool {
    let mut probe = Box::pin(probe);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| probe.as_mut().poll(cx))) {
        Ok(polled) => polled.map(|()| false),
        Err(_) => Poll::Ready(true),
    })
    .await
}

macro_rules! seen_to_fail {
    ($($probe:ident: $($fault:ident),+;)*) => { $(
        let fails_for = async |fault| fails(probes::$probe(|| BrokenLayer::subject(fault))).await;
        assert!(!fails_for(Fault::Sound).await, "{} passes", stringify!($probe));
        $(
            let failed = fails_for(Fault::$fault).await;
            assert!(failed, "{} does not see {:?}", stringify!($probe), Fault::$fault);
        )+
    )* };
}

#[tokio::test(start_paused = true)]
async fn each_probe_fails_for_a_layer_that_breaks_it() {
    seen_to_fail! {
        calls_only_values_that_were_polled_ready: CallsAFreshClone, IgnoresReadiness;
        waits_for_a_pending_inner_and_is_woken_once: IgnoresReadiness, ForgetsTheWaker;
        gives_everything_back_when_a_call_is_dropped: LeaksWhatIsDropped;
        gives_everything_back_when_something_inside_panics: LeaksWhatIsDropped;
        is_not_woken_without_a_cause: WakesItself;
        every_waiter_gets_there_by_wakes_alone: ForgetsTheWaker, WakesOneOfMany;
        eight_services_of_one_layer_share_its_state: StateInTheService;
        debug_texts_name_the_parts: SaysNothing;
    }
    let refuses = |fault| refusals::leaves_no_reservation(BrokenLayer::new(fault), REFUSED);
    assert!(fails(refuses(Fault::ReservesWhatItRefuses)).await);
}
