//! [`Observer`]: receives the events of layers.

use super::event::Event;
use crate::vocabulary::name::Name;

/// Hears the events of the layers it is given to.
///
/// It is called on the task that caused the event, outside of every lock of this crate. It should be
/// quick and must not panic. A panic reaches the caller of the layer, and costs the layer nothing: no
/// permit, token, probe or place is lost. A closure `Fn(Name, &Event)` will do.
pub trait Observer: Send + Sync {
    /// `layer` did `event`.
    fn on_event(&self, layer: Name, event: &Event);
}

impl<F: Fn(Name, &Event) + Send + Sync> Observer for F {
    fn on_event(&self, layer: Name, event: &Event) {
        self(layer, event);
    }
}
