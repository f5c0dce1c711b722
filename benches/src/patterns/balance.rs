//! Rows of the balancer.

use std::time::Duration;

use buttress::balance::{Balance, Config, Endpoints, Outliers, Policy};
use buttress::discover::Instance;

use super::BUTTRESS;
use crate::floors;
use crate::patterns::FLOOR;
use crate::peers::{TOWER, tower as peer_tower};
use crate::row::Row;
use crate::subject::Meter;
use crate::workload::Succeeds;

pub const OF_3: Row = Row::all("balance: one of 3 endpoints, by latency and pending calls");
pub const OF_100: Row = Row::all("balance: one of 100 endpoints, by latency and pending calls");
pub const EJECTING: Row = Row::all("balance: one of 3 endpoints, and outliers are ejected");
pub const IN_TURN: Row = Row::all("balance: 3 endpoints in turn");
pub const BY_KEY: Row = Row::all("balance: the home of a key among 100 endpoints");
pub const CHANGE: Row = Row::all("balance: a change of a set of 3 before each call");

pub const NOTES: &[&str] = &[
    "Balance: the floor draws two services, compares their pending calls and keeps no latency. \
     tower is `p2c::Balance` over `PeakEwma`; it is not `Clone`, and needs a `Buffer` to be shared.",
];

pub fn visit(meter: &mut impl Meter) {
    meter.shared(OF_3, BUTTRESS, || of(3, Config::new()));
    meter.shared(OF_3, FLOOR, || floors::balance::Balance::new(Succeeds, 3));
    meter.single(OF_3, TOWER, || peer_tower::balance(Succeeds, 3));
    meter.shared(OF_100, BUTTRESS, || of(100, Config::new()));
    meter.shared(OF_100, FLOOR, || floors::balance::Balance::new(Succeeds, 100));
    meter.single(OF_100, TOWER, || peer_tower::balance(Succeeds, 100));
    meter.shared(EJECTING, BUTTRESS, || of(3, Config::new().eject(Outliers::new())));
    meter.shared(IN_TURN, BUTTRESS, || of(3, Config::new().policy(Policy::RoundRobin)));
    meter.shared(BY_KEY, BUTTRESS, || {
        of(100, Config::new()).key(by_request as fn(&u64) -> Option<u64>)
    });
    meter.shared(CHANGE, BUTTRESS, Changing::new);
}

fn by_request(request: &u64) -> Option<u64> {
    Some(*request)
}

fn instances(count: u32) -> Vec<Instance> {
    (0..count).map(|number| Instance::at(format!("10.0.0.{number}:8001"))).collect()
}

fn of(count: u32, config: Config) -> Balance<Succeeds> {
    let set = Endpoints::new();
    set.replace(&instances(count), |_| Succeeds);
    Balance::new(set, config).expect("valid")
}

/// Two sets of three endpoints in turn, which differ in one weight.
#[derive(Clone)]
struct Changing {
    set: Endpoints<Succeeds>,
    balance: Balance<Succeeds>,
    sets: [Vec<Instance>; 2],
}

impl Changing {
    fn new() -> Self {
        let set = Endpoints::new();
        let one = instances(3);
        let mut two = one.clone();
        two[2] = two[2].clone().with_weight(2);
        let balance = Balance::new(set.clone(), Config::new().ramp(Duration::ZERO)).expect("valid");
        Self { set, balance, sets: [one, two] }
    }
}

impl tower::Service<u64> for Changing {
    type Response = u64;
    type Error = <Succeeds as tower::Service<u64>>::Error;
    type Future = <Balance<Succeeds> as tower::Service<u64>>::Future;

    fn poll_ready(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        self.balance.poll_ready(cx)
    }

    fn call(&mut self, request: u64) -> Self::Future {
        self.set.replace(&self.sets[(request % 2) as usize], |_| Succeeds);
        self.balance.call(request)
    }
}
