use super::*;

const LENGTH: Duration = Duration::from_secs(10);

fn at(start: Instant, seconds: u64) -> Instant {
    start + Duration::from_secs(seconds)
}

/// Returns an instant, and a lease that was requested and granted then.
fn granted() -> (Instant, Tenure) {
    let start = Clock::default().now();
    (start, Tenure::none(start).renewed(start, start, LENGTH))
}

#[test]
fn a_lease_ends_a_length_after_it_was_asked_for() {
    let start = Clock::default().now();
    let none = Tenure::none(start);
    assert_eq!(none.term(start), None);
    let tenure = none.renewed(start, at(start, 2), LENGTH);
    assert_eq!(tenure.term(at(start, 9)), Some(1));
    assert_eq!(tenure.term(at(start, 10)), None);
}

#[test]
fn a_renewal_in_time_continues_the_term() {
    let (start, first) = granted();
    let second = first.renewed(at(start, 4), at(start, 9), LENGTH);
    assert_eq!((first.term(start), second.term(at(start, 13))), (Some(1), Some(1)));
    assert_eq!(second.term(at(start, 14)), None);
}

#[test]
fn a_renewal_after_a_lapse_begins_another_term() {
    let (start, first) = granted();
    let second = first.renewed(at(start, 11), at(start, 11), LENGTH);
    assert_eq!(second.term(at(start, 11)), Some(2));
}

/// The request was in time, but the store may have granted it after the end.
#[test]
fn a_renewal_whose_answer_comes_after_the_end_begins_another_term() {
    let (start, first) = granted();
    let second = first.renewed(at(start, 9), at(start, 10), LENGTH);
    assert_eq!(second.term(at(start, 10)), Some(2));
    assert_eq!(second.term(at(start, 19)), None);
}

#[test]
fn an_answer_that_comes_late_does_not_shorten_a_lease() {
    let start = Clock::default().now();
    let first = Tenure::none(start).renewed(at(start, 5), at(start, 5), LENGTH);
    let late = first.renewed(start, at(start, 6), LENGTH);
    assert_eq!(late, first);
}

#[test]
fn a_permit_stands_until_the_lease_lapses_and_not_again() {
    let time = buttress::VirtualClock::new();
    let lease = Lease::new(WorkerId::new(1), LENGTH, time.clock());
    let early = lease.permit();
    let renew = |asked: Instant| {
        let mut tenure = lease.known.tenure.lock().unwrap();
        *tenure = tenure.renewed(asked, time.clock().now(), LENGTH);
    };
    renew(time.clock().now());
    assert!(!early.stands(), "the permit was taken without a lease");
    let permit = lease.permit();
    time.advance(Duration::from_secs(9));
    renew(time.clock().now());
    time.advance(Duration::from_secs(9));
    assert!(permit.stands());
    time.advance(Duration::from_secs(1));
    assert!(!permit.stands());
    renew(time.clock().now());
    assert!(lease.is_live() && lease.permit().stands());
    assert!(!permit.stands(), "the permit was taken before the lapse");
}
