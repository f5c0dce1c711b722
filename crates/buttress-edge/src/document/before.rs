//! The parts that a new route takes over from the route before.

use serde_json::Value;

use crate::route::Route;

/// A section, and the route that was built of the section before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before<'b> {
    pub section: &'b Value,
    /// The section before, and its route. `None` for a new name.
    pub before: Option<(&'b Value, &'b Route)>,
    /// Whether both routes go to the same service of the program, or to none.
    pub same_service: bool,
}

impl<'b> Before<'b> {
    /// Returns the route before if both sections are equal at each of `paths`. The caller takes a
    /// part of that route, with its state, if the part follows only from these parts of the section.
    pub(super) fn same(self, paths: &[&str]) -> Option<&'b Route> {
        let (before, route) = self.before?;
        let is_same = |path: &&str| before.pointer(path) == self.section.pointer(path);
        Some(route).filter(|_| paths.iter().all(is_same))
    }
}
