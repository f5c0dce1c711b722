//! Guards that are returned when a panic unwinds.

/// A guard that can be returned in place, before it is dropped.
pub trait Guard {
    /// Returns the guarded permit, place or admission, unless it was returned before.
    fn give_back(&mut self);
}

/// Returns a guard when a panic unwinds past it. Moving the guard out of its place and back would
/// cost something on every call; this does not.
pub(crate) struct OnUnwind<'a, G: Guard>(&'a mut G);

impl<'a, G: Guard> OnUnwind<'a, G> {
    #[inline(always)]
    pub(crate) fn give_back(guard: &'a mut G) -> Self {
        Self(guard)
    }

    #[inline(always)]
    pub(crate) fn guard(&mut self) -> &mut G {
        self.0
    }

    /// Ends the watch without a panic. The guard is unchanged.
    #[inline(always)]
    pub(crate) fn disarm(self) {
        std::mem::forget(self);
    }
}

impl<G: Guard> Drop for OnUnwind<'_, G> {
    #[cold]
    fn drop(&mut self) {
        self.0.give_back();
    }
}
