//! The connections of HTTP/2: a backend gets another one when the streams of the others are taken.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper_util::client::legacy::{Builder, Client};

use super::Connector;
use super::source::Sent;

/// Clients of HTTP/2. Each keeps one connection to each backend.
#[derive(Clone)]
pub(super) struct Lanes(Arc<Shared>);

struct Shared {
    first: Client<Connector, Sent>,
    /// How further ones are made.
    builder: Builder,
    connector: Connector,
    further: Mutex<Vec<Client<Connector, Sent>>>,
}

impl Lanes {
    pub(super) fn new(builder: Builder, connector: Connector) -> Self {
        let first = builder.build(connector.clone());
        Self(Arc::new(Shared { first, builder, connector, further: Mutex::default() }))
    }

    /// Returns the client of the connections with this number.
    pub(super) fn get(&self, number: usize) -> Client<Connector, Sent> {
        let shared = &*self.0;
        let Some(index) = number.checked_sub(1) else { return shared.first.clone() };
        let mut further = lock(&shared.further);
        while further.len() <= index {
            further.push(shared.builder.build(shared.connector.clone()));
        }
        further.get(index).unwrap_or(&shared.first).clone()
    }
}

impl fmt::Debug for Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lanes").finish_non_exhaustive()
    }
}

/// The streams of a backend that are taken, of each of its connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Streams(Arc<Mutex<Vec<u32>>>);

impl Streams {
    /// Takes a stream of the first connection that has fewer than `limit`.
    pub(super) fn take(&self, limit: u32) -> Lane {
        let mut taken = lock(&self.0);
        let free = taken.iter().position(|count| *count < limit);
        let number = free.unwrap_or(taken.len());
        match taken.get_mut(number) {
            Some(count) => *count += 1,
            None => taken.push(1),
        }
        Lane { streams: self.clone(), number }
    }
}

/// A stream of a connection to a backend. Dropping it frees the stream.
#[derive(Debug)]
pub(crate) struct Lane {
    streams: Streams,
    pub(super) number: usize,
}

impl Drop for Lane {
    fn drop(&mut self) {
        if let Some(count) = lock(&self.streams.0).get_mut(self.number) {
            *count = count.saturating_sub(1);
        }
    }
}

/// Locks a list. No code of a user runs under the lock, so the list is whole even after a panic.
fn lock<T>(list: &Mutex<T>) -> MutexGuard<'_, T> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_connection_with_a_free_stream_is_taken() {
        let streams = Streams::default();
        let mut taken: Vec<Lane> = (0..5).map(|_| streams.take(2)).collect();
        let numbers: Vec<usize> = taken.iter().map(|lane| lane.number).collect();
        assert_eq!(numbers, [0, 0, 1, 1, 2]);
        drop(taken.remove(2));
        drop(taken.remove(0));
        assert_eq!([streams.take(2), streams.take(2)].map(|lane| lane.number), [0, 1]);
    }
}
