use super::*;

/// A registry whose times are seconds since its start.
struct Trial {
    zero: Instant,
    state: State,
}

fn rules() -> Rules {
    let ttl = Duration::from_secs(30);
    let max_bytes = 1 << 20;
    Rules { ttl, longest: 3 * ttl, max_services: 1000, max_instances: 1000, max_bytes }
}

fn record(address: &str) -> Record {
    Record { address: address.to_owned(), weight: 1, metadata: BTreeMap::new() }
}

impl Trial {
    fn new(rules: Rules) -> Self {
        let zero = buttress::VirtualClock::new().clock().now();
        Self { zero, state: State::new(rules, zero) }
    }

    fn at(&self, seconds: u64) -> Instant {
        self.zero + Duration::from_secs(seconds)
    }

    fn beat(&mut self, seconds: u64, id: usize) -> bool {
        let at = self.at(seconds);
        self.state.put(at, "orders", &id.to_string(), record("10.0.0.1:1")).unwrap()
    }

    /// Returns the ids of the current instances.
    fn ids(&mut self, seconds: u64) -> Vec<usize> {
        let set = self.state.set(self.at(seconds), "orders").unwrap();
        set.instances.iter().map(|(id, _)| id.parse().unwrap()).collect()
    }

    fn due(&self, seconds: u64) -> Option<u64> {
        let due = self.state.next_expiry(self.at(seconds), "orders")?;
        Some(due.duration_since(self.zero).as_secs())
    }
}

#[test]
fn edge_5_18_until_one_expiry_after_the_start_nothing_is_known() {
    let mut trial = Trial::new(rules());
    trial.beat(5, 1);
    let left = |trial: &mut Trial, seconds, service: &str| {
        trial.state.set(trial.at(seconds), service).unwrap_err().as_secs()
    };
    assert_eq!(left(&mut trial, 0, "orders"), 30);
    assert_eq!(left(&mut trial, 29, "orders"), 1);
    assert_eq!(left(&mut trial, 29, "prices"), 1);
    assert_eq!(trial.ids(30), [1]);
    let empty = trial.state.set(trial.at(30), "prices").unwrap();
    assert_eq!(empty.instances, [], "now it is known that there is none");
}

#[test]
fn an_instance_expires_30_s_after_its_last_heartbeat() {
    let mut trial = Trial::new(rules());
    assert!(trial.beat(20, 1));
    assert!(!trial.beat(30, 1), "a heartbeat changes nothing");
    assert!(trial.beat(25, 2));
    assert_eq!(trial.due(30), Some(55));
    assert_eq!(trial.ids(54), [1, 2]);
    assert_eq!(trial.ids(55), [1]);
    assert_eq!(trial.due(55), Some(60));
    assert_eq!(trial.ids(60), [0; 0]);
    assert_eq!(trial.due(60), None);
}

#[test]
fn edge_5_14_half_of_the_instances_stop_and_stay_until_90_s() {
    let mut trial = Trial::new(rules());
    // Ten instances beat every 10 seconds, one each second. The last beats of the odd ones are at 101 to 109.
    for second in 0..200 {
        let id = second % 10;
        if id % 2 == 0 || second < 110 {
            trial.beat(second as u64, id);
        }
        let left = match second {
            0..10 => continue,
            10..191 => 10,
            191..193 => 9,
            193..195 => 8,
            // The third of five leaves two, which are not protected.
            _ => 5,
        };
        if second >= 30 {
            assert_eq!(trial.ids(second as u64).len(), left, "{second}");
        }
    }
    assert_eq!(trial.ids(199), [0, 2, 4, 6, 8]);
}

#[test]
fn edge_5_14_all_that_stop_in_the_same_moment_expire_90_s_after_it() {
    let mut trial = Trial::new(rules());
    for id in 0..10 {
        trial.beat(100, id);
    }
    for second in (110..=180).step_by(10) {
        for id in 0..5 {
            trial.beat(second, id);
        }
    }
    assert_eq!(trial.ids(189).len(), 10);
    assert_eq!(trial.due(189), Some(190));
    assert_eq!(trial.ids(190), [0, 1, 2, 3, 4]);
}

#[test]
fn edge_5_14_two_instances_or_15_percent_are_not_protected() {
    for (all, stopped, protected) in [(2, 2, false), (3, 3, true), (20, 3, false), (19, 3, true)] {
        let mut trial = Trial::new(rules());
        for id in 0..all {
            trial.beat(100, id);
        }
        for second in [110, 120] {
            for id in stopped..all {
                trial.beat(second, id);
            }
        }
        let left = if protected { all } else { all - stopped };
        assert_eq!(trial.ids(130).len(), left, "{stopped} of {all}");
    }
}

#[test]
fn a_heartbeat_that_ends_the_protection_lets_the_others_expire() {
    let mut trial = Trial::new(rules());
    for id in 0..6 {
        trial.beat(100, id);
    }
    for second in [110, 120, 130] {
        for id in 3..6 {
            trial.beat(second, id);
        }
    }
    assert_eq!(trial.ids(135).len(), 6, "three are overdue");
    assert_eq!(trial.due(135), Some(190));
    assert!(trial.beat(136, 0), "two are overdue, and expire");
    assert_eq!(trial.ids(136), [0, 3, 4, 5]);
}

#[test]
fn a_departure_is_immediate_and_a_second_one_changes_nothing() {
    let mut trial = Trial::new(rules());
    trial.beat(100, 1);
    assert!(trial.state.remove(trial.at(101), "orders", "1"));
    assert!(!trial.state.remove(trial.at(101), "orders", "1"));
    assert!(!trial.state.remove(trial.at(101), "prices", "1"));
    assert_eq!(trial.ids(101), [0; 0]);
    assert_eq!(trial.state.counts(trial.at(101)), (0, 0));
}

#[test]
fn every_change_has_a_version_and_a_heartbeat_has_none() {
    let mut trial = Trial::new(rules());
    let version = |trial: &mut Trial| trial.state.set(trial.at(100), "orders").unwrap().version;
    let mut versions = vec![version(&mut trial)];
    trial.beat(100, 1);
    versions.push(version(&mut trial));
    trial.beat(100, 1);
    assert_eq!(version(&mut trial), versions[1]);
    let at = trial.at(100);
    assert!(trial.state.put(at, "orders", "1", record("10.0.0.1:2")).unwrap());
    versions.push(version(&mut trial));
    trial.beat(100, 2);
    versions.push(version(&mut trial));
    trial.state.remove(at, "orders", "2");
    versions.push(version(&mut trial));
    assert!(versions.is_sorted_by(|one, next| one < next), "{versions:?}");
    trial.state.remove(at, "orders", "1");
    assert_eq!(version(&mut trial), 0);
}

#[test]
fn edge_5_16_services_and_instances_are_bounded_and_an_expired_one_makes_room() {
    let mut trial = Trial::new(Rules { max_services: 2, max_instances: 2, ..rules() });
    let put = |trial: &mut Trial, seconds, service: &str, id: &str| {
        trial.state.put(trial.at(seconds), service, id, record("10.0.0.1:1"))
    };
    for (service, id) in [("a", "1"), ("a", "2"), ("b", "1")] {
        assert_eq!(put(&mut trial, 100, service, id), Ok(true));
    }
    assert_eq!(put(&mut trial, 110, "a", "3"), Err(Full::Instances));
    assert_eq!(put(&mut trial, 110, "c", "1"), Err(Full::Services));
    assert_eq!(put(&mut trial, 110, "a", "2"), Ok(false), "a heartbeat needs no room");
    assert_eq!(put(&mut trial, 130, "a", "3"), Ok(true));
    assert_eq!(put(&mut trial, 130, "c", "1"), Ok(true));
}

/// Regression: each caller had a copy of the whole set.
#[test]
fn callers_share_a_set_until_it_changes() {
    let mut trial = Trial::new(rules());
    trial.beat(100, 1);
    trial.beat(100, 2);
    let set = |trial: &mut Trial, seconds| trial.state.set(trial.at(seconds), "orders").unwrap();
    let first = set(&mut trial, 100);
    trial.beat(115, 2);
    assert!(Arc::ptr_eq(&first, &set(&mut trial, 115)), "a heartbeat changes nothing");
    assert_eq!(trial.state.version("orders"), first.version);
    trial.beat(116, 3);
    let second = set(&mut trial, 116);
    assert!(!Arc::ptr_eq(&first, &second) && second.instances.len() == 3);
    assert_eq!(trial.state.version("orders"), second.version);
    // What did not change is shared by both sets.
    assert!(Arc::ptr_eq(&first.instances[1].1, &second.instances[1].1));
    let third = set(&mut trial, 130);
    assert_eq!((third.instances.len(), second.instances.len()), (2, 3), "one has expired");
    for id in ["2", "3"] {
        trial.state.remove(trial.at(131), "orders", id);
    }
    assert_eq!((set(&mut trial, 131).version, trial.state.version("orders")), (0, 0));
}

/// Regression: a million instances of 4 KiB each could be announced.
#[test]
fn edge_5_16_all_instances_together_take_a_bounded_number_of_bytes() {
    let of_size = |length: usize| Record {
        address: "10.0.0.1:1".into(),
        weight: 1,
        metadata: [("a".into(), "b".repeat(length))].into(),
    };
    let one = weight("1", &of_size(100));
    assert_eq!(one, 256 + 1 + 10 + 1 + 100 + 64);
    let mut trial = Trial::new(Rules { max_bytes: 2 * one, ..rules() });
    let put = |trial: &mut Trial, seconds, service: &str, id: &str, length| {
        trial.state.put(trial.at(seconds), service, id, of_size(length))
    };
    assert_eq!(put(&mut trial, 100, "a", "1", 100), Ok(true));
    assert_eq!(put(&mut trial, 100, "b", "1", 100), Ok(true));
    assert_eq!(trial.state.bytes, 2 * one);
    assert_eq!(put(&mut trial, 110, "c", "1", 0), Err(Full::Bytes));
    assert!(!trial.state.services.contains_key("c"), "nothing is left of it");
    assert_eq!(put(&mut trial, 110, "a", "1", 100), Ok(false), "a heartbeat needs no room");
    assert_eq!(put(&mut trial, 110, "a", "1", 101), Err(Full::Bytes));
    assert_eq!(put(&mut trial, 110, "a", "1", 50), Ok(true), "a smaller one frees some");
    assert_eq!(trial.state.bytes, 2 * one - 50);
    // The instance of `b` has expired, and makes room.
    assert_eq!(put(&mut trial, 130, "c", "1", 100), Ok(true));
    assert_eq!(trial.state.bytes, 2 * one - 50);
    trial.state.remove(trial.at(131), "a", "1");
    trial.state.remove(trial.at(131), "a", "1");
    assert_eq!(trial.state.bytes, one);
    assert_eq!(trial.state.counts(trial.at(160)), (0, 0));
    assert_eq!(trial.state.bytes, 0);
}
