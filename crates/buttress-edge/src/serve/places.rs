//! How many connections are open, in total and per address.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use buttress_http::client_key::AddressKey;

/// The open connections of a listener.
#[derive(Clone, Debug)]
pub(crate) struct Places(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    max: usize,
    max_per_address: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_address: HashMap<AddressKey, usize>,
}

impl Places {
    pub(crate) fn new(max: usize, max_per_address: usize) -> Self {
        Self(Arc::new(Shared { max, max_per_address, open: Mutex::default() }))
    }

    /// Takes a place for a connection, or returns `None` if there is none.
    pub(crate) fn take(&self, address: AddressKey) -> Option<Place> {
        let shared = &*self.0;
        let mut open = shared.lock();
        if open.total >= shared.max || shared.max_per_address == 0 {
            return None;
        }
        let count = open.by_address.entry(address).or_default();
        if *count >= shared.max_per_address {
            return None;
        }
        *count += 1;
        open.total += 1;
        Some(Place { places: self.clone(), address })
    }

    pub(crate) fn total(&self) -> usize {
        self.0.lock().total
    }
}

impl Shared {
    /// Locks the counts. No code of a user runs under the lock, so they are whole even after a panic.
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of an open connection. Dropping it frees the place.
#[derive(Debug)]
pub(crate) struct Place {
    places: Places,
    address: AddressKey,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.places.0.lock();
        open.total = open.total.saturating_sub(1);
        if let Entry::Occupied(mut entry) = open.by_address.entry(self.address) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn key(address: &str) -> AddressKey {
        address.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn edge_2_50_places_are_bounded_in_total_and_per_address() {
        let places = Places::new(3, 2);
        let first = places.take(key("192.0.2.1")).unwrap();
        let _second = places.take(key("192.0.2.1")).unwrap();
        assert!(places.take(key("192.0.2.1")).is_none());
        let _third = places.take(key("2001:db8::1")).unwrap();
        assert!(places.take(key("192.0.2.2")).is_none());
        drop(first);
        // One /64 is one address.
        let _fourth = places.take(key("2001:db8::2")).unwrap();
        assert!(places.take(key("192.0.2.1")).is_none());
        assert_eq!(places.total(), 3);
    }

    #[test]
    fn a_place_that_is_free_leaves_nothing_behind() {
        let places = Places::new(10, 10);
        drop(places.take(key("192.0.2.1")));
        assert_eq!(places.total(), 0);
        assert!(places.0.lock().by_address.is_empty());
        assert!(Places::new(0, 1).take(key("192.0.2.1")).is_none());
        assert!(Places::new(1, 0).take(key("192.0.2.1")).is_none());
    }
}
