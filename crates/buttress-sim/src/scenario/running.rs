//! Running a scenario: requests, faults, and the ends of windows.

use std::sync::Arc;
use std::time::Duration;

use buttress::{AsRefusal, InvalidConfig, Spawner};
use tower::Service;

use super::Scenario;
use crate::executor::named;
use crate::fault::{Fault, Faults};
use crate::load::{Arrivals, Callers, Request, Shape, closed_loop, open_loop};
use crate::world::World;

impl Scenario {
    /// Starts all tasks. The returned future ends with the run.
    pub(super) fn begin<S>(
        &self,
        world: &World,
        window: Duration,
        stack: S,
    ) -> Result<impl Future<Output = ()> + use<S>, InvalidConfig>
    where
        S: Service<Request> + Clone + Send + 'static,
        S::Error: AsRefusal,
        S::Future: Send,
    {
        for planned in self.faults.all() {
            if !world.knows(&planned.target, &planned.fault) {
                return Err(InvalidConfig::new("target", &planned.target, "known to the world"));
            }
        }
        if let Some(target) = self.target.as_ref().filter(|target| !world.has_station(target)) {
            return Err(InvalidConfig::new("target", target, "a station of the world"));
        }
        // Registered first, so that the run ends before any other event of that instant.
        let (end, start) = (world.clock(), world.start());
        let until = start + self.duration;
        let mut end = Box::pin(async move { end.sleep_until(until).await });
        let spawner = world.spawner();
        spawner.spawn(named("windows", sample(world.clone(), window)));
        if !self.warm_up.is_zero() {
            let (world, warm) = (world.clone(), world.clock().sleep(self.warm_up));
            spawner.spawn(named("warm-up", async move {
                warm.await;
                world.warm_up_is_over();
            }));
        }
        spawner.spawn(named("faults", strike(world.clone(), self.faults.clone())));
        self.start_load(world, stack, &spawner);
        let world = world.clone();
        Ok(async move {
            std::future::poll_fn(|cx| end.as_mut().poll(cx)).await;
            if world.recorder().has_open_window() {
                world.sample();
            }
        })
    }

    fn start_load<S>(&self, world: &World, stack: S, spawner: &Spawner)
    where
        S: Service<Request> + Clone + Send + 'static,
        S::Error: AsRefusal,
        S::Future: Send,
    {
        let seed = world.seed().child("load");
        let callers = Arc::new(Callers {
            recorder: world.recorder().clone(),
            source: world.source("caller"),
            clock: world.clock(),
            start: world.start(),
            patience: self.load.patience.clone().map(|patience| (patience, seed.named("patience"))),
            keys: (self.load.keys, seed.named("keys")),
        });
        if let Some(arrivals) = Arrivals::of(&self.load.shape, &seed.named("arrivals")) {
            let load = open_loop(callers, arrivals, stack, spawner.clone());
            spawner.spawn(named("load", load));
        } else if let Shape::Closed { clients, think } = &self.load.shape {
            for client in 0..u64::from(*clients) {
                let think = (think.clone(), seed.child("think").named(&client.to_string()));
                let ids = (client, u64::from(*clients));
                let client = closed_loop(callers.clone(), stack.clone(), think, ids);
                spawner.spawn(named("client", client));
            }
        }
    }
}

/// Closes one window after another.
async fn sample(world: World, window: Duration) {
    let (clock, mut next) = (world.clock(), world.start());
    loop {
        next += window;
        clock.sleep_until(next).await;
        world.sample();
    }
}

/// Begins and ends each fault.
async fn strike(world: World, faults: Faults) {
    let clock = world.clock();
    let mut changes: Vec<(Duration, usize, bool)> = Vec::new();
    for (index, planned) in faults.planned.iter().enumerate() {
        if planned.from >= planned.to {
            continue;
        }
        changes.push((planned.from, index, true));
        changes.push((planned.to, index, false));
    }
    // A fault that ends at an instant ends before another begins.
    changes.sort_by_key(|(at, index, begins)| (*at, *begins, *index));
    let mut present: Vec<usize> = Vec::new();
    for (at, index, begins) in changes {
        clock.sleep_until(world.start() + at).await;
        present.retain(|other| *other != index);
        if begins {
            present.push(index);
        }
        let Some(planned) = faults.planned.get(index) else { continue };
        let same = present.iter().filter_map(|index| faults.planned.get(*index));
        let same: Vec<&Fault> =
            same.filter(|other| other.target == planned.target).map(|other| &other.fault).collect();
        let what = if begins { crate::What::FaultBegan } else { crate::What::FaultEnded };
        world.recorder().event(world.source(&planned.target), what, index as u64);
        world.strike(&planned.target, &same);
    }
}
