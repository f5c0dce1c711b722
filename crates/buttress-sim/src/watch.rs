//! [`Watch`]: records the events of layers.

use std::fmt;
use std::sync::Arc;

use buttress::{Name, Observer};

use crate::measure::Recorder;

/// An observer that records the events of layers. Made by
/// [`World::observer`](crate::World::observer).
#[derive(Clone)]
pub struct Watch {
    pub(crate) recorder: Arc<Recorder>,
    /// Distinguishes the unnamed layers of two observers.
    pub(crate) number: u32,
}

impl Observer for Watch {
    fn on_event(&self, layer: Name, event: &buttress::Event) {
        self.recorder.layer(self.number, layer, event);
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}
