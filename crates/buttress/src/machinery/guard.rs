//! Giving a guard back when a panic unwinds.

/// A guard that can be given back where it stands, before it is dropped.
pub trait Guard {
    /// Gives back what this guards, if that has not been done.
    fn give_back(&mut self);
}

/// Gives a guard back when a panic unwinds past it. Unlike moving the guard out of its place and back,
/// this costs nothing where nobody panics.
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

    /// No panic: the guard stays as it is.
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
