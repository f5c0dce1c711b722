//! [`DomainEvent`]: a value that is the data of an event.

/// The data of an event. Often an enum of all events of an aggregate.
///
/// ```
/// use buttress_durable::event::DomainEvent;
///
/// enum OrderEvent {
///     Created { order: u64 },
///     Paid { order: u64, cents: u64 },
/// }
///
/// impl DomainEvent for OrderEvent {
///     const KINDS: &'static [(&'static str, u32)] = &[("order.created", 1), ("order.paid", 2)];
///
///     fn kind(&self) -> &'static str {
///         match self {
///             Self::Created { .. } => "order.created",
///             Self::Paid { .. } => "order.paid",
///         }
///     }
///
///     fn subject(&self) -> String {
///         let (Self::Created { order } | Self::Paid { order, .. }) = self;
///         format!("order-{order}")
///     }
/// }
/// assert_eq!(OrderEvent::Paid { order: 7, cents: 100 }.version(), 2);
/// ```
pub trait DomainEvent {
    /// Every kind that this type can be, with the newest version of its data that this program reads.
    ///
    /// An event of another kind, or of a newer version, is decoded as
    /// [`Unknown`](super::Decoded::Unknown). The codec reads events of older versions too, so their data must still
    /// be readable.
    const KINDS: &'static [(&'static str, u32)];

    /// Returns the kind, which is the CloudEvents attribute `type` and the topic of the message.
    fn kind(&self) -> &'static str;

    /// Returns the version of the data. Default: the version in [`KINDS`](Self::KINDS), or 1 for a kind that it does
    /// not name.
    fn version(&self) -> u32 {
        newest::<Self>(self.kind()).unwrap_or(1)
    }

    /// Returns the subject, which is the key of the message: relays and consumers keep the events of one subject in
    /// order. Between 1 and 512 bytes.
    fn subject(&self) -> String;
}

/// Returns the newest version of `kind` that `T` reads; `None` if `T` does not know the kind.
pub(crate) fn newest<T: DomainEvent + ?Sized>(kind: &str) -> Option<u32> {
    T::KINDS.iter().find(|(known, _)| *known == kind).map(|(_, version)| *version)
}
