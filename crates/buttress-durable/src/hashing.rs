//! [`NumberMap`]: a map whose keys are numbers of this library, or types.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map whose keys no client chooses, so that a fast hash is enough.
pub(crate) type NumberMap<K, V> = HashMap<K, V, BuildHasherDefault<OfNumber>>;

/// Spreads a number over all bits. The numbers of this library follow each other, and the bits of a `TypeId` are
/// mixed already.
#[derive(Default)]
pub(crate) struct OfNumber(u64);

impl Hasher for OfNumber {
    fn write(&mut self, bytes: &[u8]) {
        // Correct for any bytes. Numbers and types hand over a number instead.
        for byte in bytes {
            self.write_u64(self.0.rotate_left(8) ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // An odd number near the golden ratio of 2^64.
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
