//! The output of a run.

use std::time::{Duration, Instant};

use buttress::Clock;
use buttress::registry::Pattern;

use crate::load::{Purchase, Tally};
use crate::protection::Protection;
use crate::upstream::{Act, LENGTH, Upstreams};
use crate::{IN_TIME, PATIENCE};

/// Prints the script of the run.
pub(crate) fn script(rate: u32, script: &[Act]) {
    println!("Two shops, one with buttress and one without: {rate} purchases per second at each,");
    println!(
        "for {} seconds. Every purchase calls catalogue, pricing and payment.\n",
        LENGTH.as_secs()
    );
    for Act { service, trouble, from, to } in script {
        let what = format!("{trouble:?}").to_lowercase();
        println!("  second {:>2} to {:>2}: {service} {what}", from.as_secs(), to.as_secs());
    }
    println!("\n  second   answered in time, of those that ended in it    circuits");
    println!("           with buttress       without");
}

/// Prints one line per second.
pub(crate) async fn progress(start: Instant, protection: Protection, with: Tally, without: Tally) {
    let mut before = [(0, 0); 2];
    for second in 1.. {
        Clock::default().sleep_until(start + Duration::from_secs(second)).await;
        let now = [&with, &without].map(|tally| (tally.in_time(), tally.purchases().len()));
        let share = |i: usize| -> String {
            let ((good, all), (good_before, all_before)) = match (now.get(i), before.get(i)) {
                (Some(now), Some(before)) => (*now, *before),
                _ => return String::new(),
            };
            format!("{:>4} of {:>4}", good - good_before, all - all_before)
        };
        println!("  {second:>6}   {:<18} {:<26} {}", share(0), share(1), circuits(&protection));
        before = now;
    }
}

fn circuits(protection: &Protection) -> String {
    let names = protection.registry.names(Pattern::CircuitBreaker);
    let state = |name: &buttress::Name| {
        let breaker = protection.registry.circuit_breaker(name.as_str()).ok()?;
        let state = breaker.handle().state();
        (state != buttress::CircuitState::Closed).then(|| format!("{name} {state}"))
    };
    let states: Vec<String> = names.iter().filter_map(state).collect();
    if states.is_empty() { "all closed".to_owned() } else { states.join(", ") }
}

/// Prints the two shops side by side.
pub(crate) fn table(
    with: &Tally,
    with_upstreams: &Upstreams,
    without: &Tally,
    without_upstreams: &Upstreams,
) {
    println!("\n{:<44}{:>14}{:>14}", "", "with buttress", "without");
    let row = |name: &str, cells: [String; 2]| {
        let [with, without] = cells;
        println!("{name:<44}{with:>14}{without:>14}");
    };
    let both = [with, without];
    row("requests", both.map(|tally| tally.purchases().len().to_string()));
    row(
        &format!("answered in time ({} ms)", IN_TIME.as_millis()),
        both.map(|tally| tally.in_time().to_string()),
    );
    let count = |tally: &Tally, test: fn(&(Purchase, Duration)) -> bool| {
        tally.purchases().iter().filter(|purchase| test(purchase)).count().to_string()
    };
    let degraded =
        |(end, took): &(Purchase, Duration)| *end == Purchase::Degraded && *took <= IN_TIME;
    row("  degraded (list price, pay later)", both.map(|tally| count(tally, degraded)));
    let late = |(end, took): &(Purchase, Duration)| *end != Purchase::Failed && *took > IN_TIME;
    row("answered late", both.map(|tally| count(tally, late)));
    let failed = |(end, _): &(Purchase, Duration)| *end == Purchase::Failed;
    row(
        &format!("failed, or not answered in {} s", PATIENCE.as_secs()),
        both.map(|tally| count(tally, failed)),
    );
    row("median time of all", both.map(|tally| percentile(tally, 0.50)));
    row("99th percentile", both.map(|tally| percentile(tally, 0.99)));
    for (ours, theirs) in with_upstreams.all.iter().zip(&without_upstreams.all) {
        let calls = [ours.calls().1.to_string(), theirs.calls().1.to_string()];
        row(&format!("calls to {} during its trouble", ours.name), calls);
    }
}

fn percentile(tally: &Tally, share: f64) -> String {
    let mut times: Vec<Duration> = tally.purchases().iter().map(|(_, took)| *took).collect();
    times.sort_unstable();
    let rank = (times.len() as f64 * share).ceil() as usize;
    let time = times.get(rank.saturating_sub(1)).copied().unwrap_or_default();
    format!("{:.0} ms", time.as_secs_f64() * 1000.0)
}

/// Prints the changes of the circuits.
pub(crate) fn transitions(protection: &Protection) {
    println!("\nCircuits:");
    for (at, name, from, to) in protection.changes() {
        println!("  {:>6.2} s  {name:<10} {from} -> {to}", at.as_secs_f64());
    }
}
