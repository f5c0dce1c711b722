//! [`Observer`]: receives the events of layers.

use super::event::Event;
use crate::vocabulary::name::Name;

/// A receiver of the events of the layers that it is registered with.
///
/// A layer calls it on the task that caused the event, outside of every lock of this crate. It
/// should be quick and must not panic. A panic reaches the caller of the layer. The layer loses no
/// permit, token, probe or place by it. Closures `Fn(Name, &Event)` implement it.
pub trait Observer: Send + Sync {
    /// Receives `event` of the layer called `layer`.
    fn on_event(&self, layer: Name, event: &Event);
}

impl<F: Fn(Name, &Event) + Send + Sync> Observer for F {
    fn on_event(&self, layer: Name, event: &Event) {
        self(layer, event);
    }
}
