//! Giving a guard back when a call is over, or when a panic unwinds.

/// Drops what is in a slot when it is dropped itself, unless told to [`keep`](Self::keep) it. Unlike
/// moving the guard out of the slot and back, this costs nothing.
pub(crate) struct GiveBack<'a, T> {
    slot: Option<&'a mut Option<T>>,
}

impl<'a, T> GiveBack<'a, T> {
    #[inline]
    pub(crate) fn on_unwind(slot: &'a mut Option<T>) -> Self {
        Self { slot: Some(slot) }
    }

    /// The guard stays where it is: the call goes on.
    #[inline]
    pub(crate) fn keep(mut self) {
        self.slot = None;
    }

    #[inline]
    pub(crate) fn get(&mut self) -> Option<&mut T> {
        self.slot.as_mut().and_then(|slot| slot.as_mut())
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
