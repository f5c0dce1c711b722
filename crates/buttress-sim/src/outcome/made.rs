//! Makes an [`Outcome`] of the recorded measurements.

use super::{FaultSpan, Outcome};
use crate::measure::{Cause, Gauge, Recorded, Sample, Window, find_phases, recovery};
use crate::scenario::Scenario;
use crate::server::StationStats;
use crate::world::World;

impl Outcome {
    pub(crate) fn of(scenario: &Scenario, world: &World) -> Self {
        let stations = world.stations();
        let gauge_names = world.gauge_names();
        world.shut_down();
        let recorded = world.recorder().finish();
        let Recorded { began, ends, latencies, retries, unfinished, windows, bands, .. } = recorded;
        let gauges = gauges(gauge_names, &windows);
        let faults: Vec<FaultSpan> = scenario
            .faults
            .lasting(scenario.duration)
            .map(|planned| FaultSpan {
                target: planned.target.clone(),
                what: planned.fault.describe(),
                from: planned.from,
                to: planned.to.min(scenario.duration),
            })
            .collect();
        let samples: Vec<Sample> = windows.iter().map(|window| sample(window, &faults)).collect();
        let patience = (samples.len() / 10).max(5);
        let (trace_hash, event_count, events) = recorded.trace.into_parts();
        let named = |(name, _): &(String, StationStats)| Some(name) == scenario.target.as_ref();
        Self {
            name: scenario.name.clone(),
            seed: scenario.seed.get(),
            duration: scenario.duration,
            began,
            unfinished,
            ends,
            latencies,
            retries,
            measured: scenario.duration.saturating_sub(scenario.warm_up),
            phases: find_phases(&samples, scenario.healthy, patience),
            recoveries: recovery(&samples, scenario.healthy),
            target: stations.iter().position(named).unwrap_or(0),
            windows,
            gauges,
            bands: bands.into_iter().map(|(_, band)| band).collect(),
            stations,
            faults,
            violations: recorded.violations,
            trace_hash,
            event_count,
            events,
        }
    }
}

fn sample(window: &Window, faults: &[FaultSpan]) -> Sample {
    let to = window.start + window.length;
    let faulty = |fault: &FaultSpan| fault.from < to && fault.to > window.start;
    Sample {
        from: window.start,
        to,
        offered: window.offered,
        good: window.ends.of(Cause::Ok),
        faulty: faults.iter().any(faulty),
    }
}

/// Returns a series for each gauge from the values of each window.
fn gauges(names: Vec<String>, windows: &[Window]) -> Vec<Gauge> {
    let series = |(index, name)| Gauge {
        name,
        values: windows.iter().map(|w| w.gauges.get(index).copied().unwrap_or_default()).collect(),
    };
    names.into_iter().enumerate().map(series).collect()
}
