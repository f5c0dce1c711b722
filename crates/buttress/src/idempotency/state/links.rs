//! Lists whose links are in their elements, which a vector holds.

use super::NONE;

/// Both ends of a list.
#[derive(Clone, Copy)]
pub(super) struct Ends {
    pub newest: u32,
    pub oldest: u32,
}

impl Ends {
    pub(super) const EMPTY: Self = Self { newest: NONE, oldest: NONE };

    /// Makes an unlisted element the newest one. `links` returns the newer and the older neighbour
    /// of an element.
    pub(super) fn push<T>(
        &mut self,
        elements: &mut [T],
        place: u32,
        links: impl Fn(&mut T) -> (&mut u32, &mut u32),
    ) {
        let Some((newer, older)) = elements.get_mut(place as usize).map(&links) else { return };
        let second = std::mem::replace(&mut self.newest, place);
        (*newer, *older) = (NONE, second);
        match elements.get_mut(second as usize).map(links) {
            Some((newer, _)) => *newer = place,
            None => self.oldest = place,
        }
    }

    /// Removes an element with these neighbours.
    #[inline]
    pub(super) fn unlink<T>(
        &mut self,
        elements: &mut [T],
        (newer, older): (u32, u32),
        links: impl Fn(&mut T) -> (&mut u32, &mut u32),
    ) {
        match elements.get_mut(newer as usize).map(&links) {
            Some((_, link)) => *link = older,
            None => self.newest = older,
        }
        match elements.get_mut(older as usize).map(links) {
            Some((link, _)) => *link = newer,
            None => self.oldest = newer,
        }
    }
}
