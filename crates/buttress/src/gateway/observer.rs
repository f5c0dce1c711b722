use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::vocabulary::name::Name;
use crate::vocabulary::observe::{Event, Observer};

/// The observer of a gateway. It is set after the parts of the routes were made.
#[derive(Clone, Default)]
pub(super) struct Slot(Arc<OnceLock<Arc<dyn Observer>>>);

impl Slot {
    /// Sets the observer, unless one is set already.
    pub(super) fn set(&self, observer: Arc<dyn Observer>) {
        let _first_stays = self.0.set(observer);
    }

    pub(super) fn shared(&self) -> Arc<dyn Observer> {
        Arc::new(self.clone())
    }
}

impl Observer for Slot {
    fn on_event(&self, layer: Name, event: &Event) {
        if let Some(observer) = self.0.get() {
            observer.on_event(layer, event);
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("is_set", &self.0.get().is_some()).finish()
    }
}
