//! Giving a guard back when a panic unwinds.

/// Drops what is in a slot if it is dropped itself, which only a panic can bring about: on every other
/// way [`keep`](Self::keep) or [`take`](Self::take) ends it. Unlike moving the guard out of the slot
/// and back, this costs nothing.
pub(crate) struct GiveBack<'a, T> {
    slot: Option<&'a mut Option<T>>,
}

impl<'a, T> GiveBack<'a, T> {
    #[inline]
    pub(crate) fn on_unwind(slot: &'a mut Option<T>) -> Self {
        Self { slot: Some(slot) }
    }

    /// The guard stays where it is.
    #[inline]
    pub(crate) fn keep(mut self) {
        self.slot = None;
    }

    /// The guard, taken out of its slot.
    #[inline]
    pub(crate) fn take(mut self) -> Option<T> {
        self.slot.take().and_then(Option::take)
    }
}

impl<T> Drop for GiveBack<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            *slot = None;
        }
    }
}
