//! Tables with explicit times.

use super::*;

const S: Duration = Duration::from_secs(1);
const TIMES: Times = Times { interval: Duration::from_secs(10), limit: Duration::from_secs(5) };

/// Checks on a clock of whole seconds.
struct Table {
    state: State,
    start: Instant,
}

impl Table {
    fn new<const N: usize>(checks: [(&'static str, Importance, &[Group]); N]) -> Self {
        let mut table = Self { state: State::new(TIMES), start: crate::Clock::default().now() };
        for (index, (name, importance, groups)) in checks.into_iter().enumerate() {
            assert_eq!(table.add(name, importance, groups), Some(index));
        }
        table
    }

    fn add(
        &mut self,
        name: &'static str,
        importance: Importance,
        groups: &[Group],
    ) -> Option<usize> {
        self.state.add(Identity { name: name.into(), importance, groups: groups.to_vec() })
    }

    fn at(&self, second: u32) -> Instant {
        self.start + S * second
    }

    fn begin(&mut self, index: usize, second: u32) -> Begin {
        let now = self.at(second);
        self.state.begin(index, now)
    }

    fn end(
        &mut self,
        index: usize,
        finding: impl Into<Option<Finding>>,
        now: Instant,
    ) -> Option<Change> {
        self.state.end(index, finding.into(), now)
    }

    /// A run that takes no time.
    fn run(&mut self, index: usize, finding: Finding, second: u32) -> Option<Change> {
        assert_eq!(self.begin(index, second), Begin::Now, "at {second}");
        let now = self.at(second);
        self.end(index, finding, now)
    }

    fn group(&mut self, group: Group, second: u32) -> Status {
        let now = self.at(second);
        self.state.group(group, now)
    }

    fn status(&self, second: u32) -> Status {
        self.state.status(self.at(second))
    }

    fn check(&self, index: usize, second: u32) -> (Status, Option<String>) {
        let report = self.state.checks(self.at(second)).swap_remove(index);
        (report.status, report.text)
    }
}

fn of(status: Status) -> Finding {
    match status {
        Status::Up => Finding::up(),
        Status::Degraded => Finding::degraded("slow"),
        Status::Down => Finding::down("refused"),
        Status::Unknown => Finding::unknown("no rights"),
    }
}

const READY: &[Group] = &[Group::Ready];

#[test]
fn edge_7_1_what_a_check_changes_depends_on_its_importance() {
    use Importance::{Critical, High, Low, Medium};
    use Status::{Degraded, Down, Unknown, Up};
    let table = [
        (
            Critical,
            [
                (Up, Up, Up),
                (Degraded, Degraded, Up),
                (Down, Down, Down),
                (Unknown, Degraded, Unknown),
            ],
        ),
        (
            High,
            [(Up, Up, Up), (Degraded, Degraded, Up), (Down, Degraded, Up), (Unknown, Degraded, Up)],
        ),
        (Medium, [(Up, Up, Up), (Degraded, Up, Up), (Down, Up, Up), (Unknown, Up, Up)]),
        (Low, [(Up, Up, Up), (Degraded, Up, Up), (Down, Up, Up), (Unknown, Up, Up)]),
    ];
    for (importance, rows) in table {
        for (found, status, ready) in rows {
            let mut table = Table::new([("it", importance, READY), ("fine", Critical, READY)]);
            table.run(0, of(found), 0);
            table.run(1, Finding::up(), 0);
            assert_eq!(table.status(0), status, "{importance} {found}");
            assert_eq!(table.group(Group::Ready, 0), ready, "{importance} {found}");
            assert_eq!(table.group(Group::Live, 0), Up);
        }
    }
}

#[test]
fn a_critical_check_that_is_down_hides_what_comes_before_and_after_it() {
    let mut table = Table::new([
        ("first", Importance::High, READY),
        ("down", Importance::Critical, READY),
        ("new", Importance::Critical, READY),
    ]);
    table.run(0, of(Status::Degraded), 0);
    table.run(1, of(Status::Down), 0);
    assert_eq!((table.status(0), table.group(Group::Ready, 0)), (Status::Down, Status::Down));
    // Without a check of the group there is nothing that could be wrong.
    let mut none = Table::new([("elsewhere", Importance::Critical, &[])]);
    assert_eq!((none.status(0), none.group(Group::Ready, 0)), (Status::Degraded, Status::Up));
    assert_eq!(none.group(Group::Startup, 0), Status::Up);
}

#[test]
fn edge_7_4_a_result_counts_for_exactly_three_intervals() {
    let mut table = Table::new([("db", Importance::Critical, READY)]);
    assert_eq!(table.check(0, 0), (Status::Unknown, Some("not checked yet".into())));
    table.run(0, Finding::up(), 100);
    assert_eq!(table.check(0, 130), (Status::Up, None));
    let later = table.at(130) + Duration::from_nanos(1);
    assert_eq!(table.state.status(later), Status::Degraded);
    assert_eq!(table.state.group(Group::Ready, later), Status::Unknown);
    let old = Some("the last result is 31 s old".into());
    assert_eq!(table.check(0, 131), (Status::Unknown, old));
    // A DOWN grows old as well.
    table.run(0, of(Status::Down), 200);
    assert_eq!((table.status(230), table.status(231)), (Status::Down, Status::Degraded));
}

#[test]
fn a_check_begins_once_an_interval_and_never_while_it_runs() {
    let mut table = Table::new([("db", Importance::Critical, READY)]);
    assert_eq!(table.begin(0, 0), Begin::Now);
    assert_eq!(table.begin(0, 3), Begin::Later(table.at(13)), "it runs");
    assert_eq!(table.begin(0, 40), Begin::Later(table.at(50)), "it still runs");
    let now = table.at(41);
    table.end(0, None, now);
    // The interval counts from the start, and missed starts are not made up for.
    assert_eq!(table.begin(0, 41), Begin::Now);
    let now = table.at(42);
    table.end(0, Finding::up(), now);
    assert_eq!(table.begin(0, 42), Begin::Later(table.at(51)));
    assert_eq!(table.begin(0, 50), Begin::Later(table.at(51)));
    assert_eq!(table.begin(0, 51), Begin::Now);
}

#[test]
fn edge_7_3_a_result_at_the_limit_counts_and_a_later_one_is_a_timeout() {
    let mut table = Table::new([("db", Importance::Critical, READY)]);
    table.begin(0, 0);
    let limit = table.at(5);
    table.end(0, Finding::up(), limit);
    assert_eq!(table.check(0, 5), (Status::Up, None));
    table.begin(0, 10);
    let late = table.at(15) + Duration::from_nanos(1);
    table.end(0, Finding::up(), late);
    assert_eq!(table.check(0, 16), (Status::Down, Some("timeout".into())));
}

#[test]
fn a_run_that_does_not_come_back_is_down_for_as_long_as_it_runs() {
    let mut table = Table::new([("db", Importance::Critical, READY)]);
    table.run(0, Finding::up(), 0);
    table.begin(0, 10);
    assert_eq!(table.check(0, 15).0, Status::Up, "at the limit the last result still counts");
    let late = table.at(15) + Duration::from_nanos(1);
    assert_eq!(table.state.status(late), Status::Down);
    assert_eq!(table.check(0, 100_000), (Status::Down, Some("timeout".into())));
}

#[test]
fn an_abandoned_run_leaves_the_last_result_and_is_due_again() {
    let mut table = Table::new([("db", Importance::Critical, READY)]);
    table.run(0, Finding::up(), 0);
    table.begin(0, 10);
    table.state.abandon(0);
    assert_eq!((table.check(0, 30).0, table.check(0, 31).0), (Status::Up, Status::Unknown));
    assert_eq!(table.begin(0, 11), Begin::Now);
}

#[test]
fn an_instant_of_another_runtime_does_not_stop_a_check() {
    let mut table = Table::new([("db", Importance::Critical, READY)]);
    table.run(0, Finding::up(), 1000);
    // The clock of the next runtime is behind.
    assert_eq!(table.check(0, 0).0, Status::Up, "a result cannot be younger than new");
    assert_eq!(table.begin(0, 0), Begin::Now);
}

#[test]
fn edge_7_6_startup_is_up_forever_once_each_check_passed() {
    let groups = &[Group::Startup];
    let mut table = Table::new([
        ("db", Importance::Critical, groups),
        ("cache", Importance::Low, groups),
        ("other", Importance::Critical, READY),
    ]);
    assert_eq!(table.group(Group::Startup, 0), Status::Down);
    table.run(0, Finding::up(), 0);
    table.run(1, of(Status::Down), 0);
    assert_eq!(table.group(Group::Startup, 0), Status::Down, "low ones count too");
    table.run(0, of(Status::Down), 10);
    // DEGRADED passes. The other check passed before, and need not pass again.
    table.run(1, of(Status::Degraded), 10);
    assert_eq!(table.group(Group::Startup, 10), Status::Up);
    table.run(0, of(Status::Down), 20);
    assert_eq!(table.group(Group::Startup, 100_000), Status::Up);
}

#[test]
fn a_startup_check_that_comes_after_the_start_changes_nothing() {
    let groups = &[Group::Startup];
    // Started by the last result, without a probe in between.
    let mut table = Table::new([("db", Importance::Critical, groups)]);
    table.run(0, Finding::up(), 0);
    table.add("late", Importance::Critical, groups);
    assert_eq!(table.group(Group::Startup, 0), Status::Up);
    // Not started: the result of a check outside of the group does not decide.
    let mut table = Table::new([("other", Importance::Critical, READY)]);
    table.run(0, Finding::up(), 0);
    table.add("db", Importance::Critical, groups);
    assert_eq!(table.group(Group::Startup, 0), Status::Down);
}

#[test]
fn edge_7_7_a_drain_ends_readiness_only() {
    let all = &[Group::Live, Group::Ready, Group::Startup];
    let mut table = Table::new([("db", Importance::Critical, all)]);
    table.run(0, Finding::up(), 0);
    table.state.drain();
    table.run(0, Finding::up(), 10);
    assert_eq!(table.group(Group::Ready, 10), Status::Down);
    assert_eq!(table.group(Group::Live, 10), Status::Up);
    assert_eq!(table.group(Group::Startup, 10), Status::Up);
    assert_eq!(table.status(10), Status::Up);
}

#[test]
fn only_down_in_its_group_ends_liveness() {
    let groups = &[Group::Live];
    let mut table = Table::new([("loop", Importance::Low, groups)]);
    assert_eq!(table.group(Group::Live, 0), Status::Up, "UNKNOWN is not a reason to restart");
    table.run(0, of(Status::Degraded), 0);
    assert_eq!(table.group(Group::Live, 0), Status::Up);
    table.run(0, of(Status::Down), 10);
    assert_eq!(table.group(Group::Live, 10), Status::Down);
    assert_eq!(table.group(Group::Live, 41), Status::Up, "an old DOWN is UNKNOWN");
}

#[test]
fn a_name_is_taken_once_and_only_a_change_is_news() {
    let mut table = Table::new([("db", Importance::High, READY)]);
    assert_eq!(table.add("db", Importance::Low, &[]), None);
    assert_eq!(table.run(0, Finding::up(), 0), None, "a check that works from the start");
    let news = table.run(0, of(Status::Down), 10).unwrap();
    assert_eq!((news.status, news.text.as_deref()), (Status::Down, Some("refused")));
    assert_eq!(table.run(0, Finding::down("another text"), 20), None);
    assert_eq!(table.run(0, Finding::up(), 30).map(|news| news.status), Some(Status::Up));
}
