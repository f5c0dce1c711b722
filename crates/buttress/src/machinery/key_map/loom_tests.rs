use super::*;
use crate::sync::beside;
use loom::sync::Arc;

#[test]
fn loom_two_new_keys_share_one_place() {
    loom::model(|| {
        let map = Arc::new(KeyMap::<u32, ()>::new(1, ()));
        let enter = |map: &KeyMap<u32, ()>, key| map.with(&key, |_| (), |_, _| false, |_, _| ());
        let other = beside(&map, move |map| enter(&map, 1).is_ok());
        let mine = enter(&map, 2).is_ok();
        assert!(mine ^ other.join().unwrap());
        assert_eq!(map.len(), 1);
    });
}

#[test]
fn loom_one_new_key_of_two_threads_is_counted_once() {
    loom::model(|| {
        let map = Arc::new(KeyMap::<u32, ()>::new(2, ()));
        let enter = |map: &KeyMap<u32, ()>| map.with(&7, |_| (), |_, _| false, |_, _| ());
        let other = beside(&map, move |map| enter(&map).is_ok());
        assert!(enter(&map).is_ok() && other.join().unwrap());
        assert_eq!(map.len(), 1);
    });
}
