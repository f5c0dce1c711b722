//! tower's own layers, and a policy for its retry.

use std::future::{Ready, ready};
use std::sync::Arc;
use std::time::Duration;

use tower::balance::p2c::Balance;
use tower::discover::ServiceList;
use tower::limit::{ConcurrencyLimit, RateLimit, rate::Rate};
use tower::load::{CompleteOnResponse, PeakEwma};
use tower::load_shed::LoadShed;
use tower::retry::budget::{Budget, TpsBudget};
use tower::retry::{Policy, Retry};

/// Two attempts after the first, without a wait. A budget limits them if there is one.
#[derive(Clone)]
pub struct Attempts<B = ()> {
    left: u32,
    budget: B,
}

/// A budget or none, selected by type, so that none costs nothing.
pub trait MaybeBudget: Clone {
    fn deposit(&self);
    fn withdraw(&self) -> bool;
}

impl MaybeBudget for () {
    fn deposit(&self) {}

    fn withdraw(&self) -> bool {
        true
    }
}

impl MaybeBudget for Arc<TpsBudget> {
    fn deposit(&self) {
        Budget::deposit(&**self);
    }

    fn withdraw(&self) -> bool {
        Budget::withdraw(&**self)
    }
}

impl<B: MaybeBudget, E> Policy<u64, u64, E> for Attempts<B> {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut u64, result: &mut Result<u64, E>) -> Option<Ready<()>> {
        if result.is_ok() {
            self.budget.deposit();
            return None;
        }
        if self.left == 0 || !self.budget.withdraw() {
            return None;
        }
        self.left -= 1;
        Some(ready(()))
    }

    fn clone_request(&mut self, request: &u64) -> Option<u64> {
        Some(*request)
    }
}

pub fn retry<S>(inner: S) -> Retry<Attempts, S> {
    Retry::new(Attempts { left: 2, budget: () }, inner)
}

pub fn retry_with_budget<S>(inner: S) -> Retry<Attempts<Arc<TpsBudget>>, S> {
    let budget = Arc::new(TpsBudget::new(Duration::from_secs(10), 10, 0.2));
    Retry::new(Attempts { left: 2, budget }, inner)
}

/// It is not `Clone`: each instance has its own count.
pub fn rate_limit<S>(inner: S, calls: u64, per: Duration) -> RateLimit<S> {
    RateLimit::new(inner, Rate::new(calls, per))
}

/// A full limit, behind a layer that refuses and does not wait.
pub fn full<S>(inner: S) -> LoadShed<ConcurrencyLimit<S>> {
    LoadShed::new(ConcurrencyLimit::new(inner, 0))
}

/// Two services drawn, by latency and pending calls. Its measure starts at 1 ms and decays in 10 s, as ours.
pub fn balance<S>(inner: S, count: usize) -> Balance<ServiceList<Vec<PeakEwma<S>>>, u64>
where
    S: tower::Service<u64> + Clone,
    S::Error: Into<tower::BoxError>,
{
    let measured = |_| {
        let (seed, decay) = (Duration::from_millis(1), 10e9);
        PeakEwma::new(inner.clone(), seed, decay, CompleteOnResponse::default())
    };
    Balance::new(ServiceList::new((0..count).map(measured).collect()))
}
