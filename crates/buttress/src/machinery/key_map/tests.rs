use super::*;
use proptest::prelude::*;

/// Adds one to the count of `key`. Entries with an even count are at rest.
fn count(map: &KeyMap<u32, u32>, key: u32) -> Option<u32> {
    let bump = |_: &(), value: &mut u32| {
        *value += 1;
        *value
    };
    map.with(&key, |_| 0, |_, value| value % 2 == 0, bump).ok()
}

#[test]
fn a_busy_key_is_never_forgotten() {
    let map = KeyMap::new(2, ());
    assert_eq!(count(&map, 1), Some(1));
    assert_eq!(count(&map, 2), Some(1));
    assert_eq!(count(&map, 3), None, "both are busy");
    assert_eq!(count(&map, 1), Some(2));
    assert_eq!(count(&map, 3), Some(1), "takes the place of 1");
    assert_eq!(count(&map, 2), Some(2));
    assert_eq!(map.len(), 2);
}

#[test]
fn a_few_that_never_rest_do_not_hide_the_others() {
    // Regression: every search examined the same eight oldest entries.
    let map = KeyMap::new(200, ());
    for key in 0..200 {
        count(&map, key);
        if key >= 100 {
            count(&map, key);
        }
    }
    let admitted = (200..210).filter(|key| count(&map, *key).is_some()).count();
    assert_eq!(admitted, 9, "one look at 64 of the hundred busy ones, then at the others");
}

#[test]
fn a_new_key_finds_a_place_in_another_shard() {
    let map = KeyMap::new(SMALL + 1, ());
    for key in 0..=SMALL as u32 {
        count(&map, key);
        count(&map, key);
    }
    for key in 10_000..20_000 {
        assert!(count(&map, key).is_some());
        count(&map, key);
        assert_eq!(map.len(), SMALL + 1);
    }
}

#[test]
fn threads_never_pass_the_cap() {
    let map = KeyMap::new(100, ());
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let map = &map;
            scope.spawn(move || {
                for key in 0..2000 {
                    count(map, thread * 500 + key % 1000);
                    assert!(map.len() <= 100);
                }
            });
        }
    });
    let held: usize = map.shards.iter().map(|shard| lock(shard).entries.len()).sum();
    assert_eq!(held, map.len(), "the gauge counts the held keys");
}

/// A key whose hash many other keys share.
#[derive(Clone, PartialEq, Eq)]
struct Colliding(u32);

impl Hash for Colliding {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0 % 3).hash(state);
    }
}

proptest! {
    /// Keys with the same hash stay distinct, whichever key is removed and whichever key moves into
    /// its place.
    #[test]
    fn keys_with_one_hash_stay_apart(keys in prop::collection::vec(0u32..20, 0..200)) {
        let map = KeyMap::<Colliding, u32>::new(8, ());
        let mut list: Vec<u32> = Vec::new();
        for key in keys {
            let known = list.contains(&key);
            list.retain(|other| *other != key);
            if list.len() == 8 {
                list.remove(0);
            }
            list.push(key);
            let found = map.with(&Colliding(key), |_| key, |_, _| true, |_, value| *value);
            prop_assert_eq!(found.ok(), Some(key));
            prop_assert_eq!(map.len(), list.len());
            prop_assert!(known || map.peek(&Colliding(key), |_, value| *value) == Some(key));
            for other in 0..20 {
                let held = map.peek(&Colliding(other), |_, value| *value);
                prop_assert_eq!(held, list.contains(&other).then_some(other));
            }
        }
    }

    /// Compares with a list in order of use.
    #[test]
    fn evicts_the_oldest_at_rest(keys in prop::collection::vec(0u32..30, 0..300)) {
        let map = KeyMap::new(12, ());
        let mut list: Vec<(u32, u32)> = Vec::new();
        for key in keys {
            let expected = match list.iter().position(|(other, _)| *other == key) {
                Some(place) => {
                    let (_, value) = list.remove(place);
                    Some(value + 1)
                }
                None if list.len() < 12 => Some(1),
                None => (0..LOOKS.min(list.len())).find_map(|_| {
                    let (key, value) = list.remove(0);
                    if value % 2 == 0 {
                        return Some(1);
                    }
                    list.push((key, value));
                    None
                }),
            };
            list.extend(expected.map(|value| (key, value)));
            prop_assert_eq!(count(&map, key), expected);
            prop_assert_eq!(map.len(), list.len());
        }
    }
}
