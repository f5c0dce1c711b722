//! The headers of an event between the outbox and the bindings.
//!
//! A CloudEvents attribute `x` is the header `ce-x` with its value as UTF-8 text. All other headers keep their names.
//! [`Binding`](super::Binding) translates these headers to the names and values of a transport.

/// The prefix of the name of every attribute.
pub(super) const PREFIX: &str = "ce-";

pub(super) const ID: &str = "ce-id";
pub(super) const SOURCE: &str = "ce-source";
pub(crate) const KIND: &str = "ce-type";
pub(super) const SPEC_VERSION: &str = "ce-specversion";
pub(crate) const SUBJECT: &str = "ce-subject";
pub(super) const TIME: &str = "ce-time";
/// An extension: the version of the data's schema.
pub(super) const DATA_VERSION: &str = "ce-dataversion";
/// An extension: the id of the event that was handled when this one was made.
pub(super) const CAUSATION: &str = "ce-causationid";

/// The attribute `datacontenttype`, which every binding writes under this name.
pub(super) const CONTENT_TYPE: &str = "content-type";
/// The outbox writes this field and `traceparent` into every message.
pub(super) const CORRELATION: &str = "x-correlation-id";
pub(super) const TRACE: &str = "traceparent";

/// The version of CloudEvents that is written and read.
pub(super) const VERSION: &str = "1.0";

/// The headers of the envelope; the other headers are kept for the user.
pub(super) const OURS: [&str; 11] = [
    SPEC_VERSION,
    ID,
    SOURCE,
    KIND,
    SUBJECT,
    DATA_VERSION,
    TIME,
    CONTENT_TYPE,
    CORRELATION,
    CAUSATION,
    TRACE,
];

/// Whether a user's header cannot have this name: it is a header of the envelope, or a [`Binding`](super::Binding)
/// reads it as an attribute.
pub(super) fn is_taken(name: &str) -> bool {
    let foreign = ["ce_", "cloudEvents:", "cloudEvents_"];
    OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours))
        || foreign.iter().any(|prefix| name.starts_with(prefix))
}

/// Returns the name of an attribute without [`PREFIX`], for errors.
pub(super) fn field(header: &'static str) -> &'static str {
    header.strip_prefix(PREFIX).unwrap_or(header)
}
