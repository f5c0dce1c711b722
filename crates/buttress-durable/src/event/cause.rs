//! The event that the running task handles.

use std::future::Future;

use buttress::context::Context;

use super::attributes as names;
use super::id::EventId;

tokio::task_local! {
    static CAUSE: EventId;
}

/// Returns the id of the event that the running task handles.
pub(super) fn current() -> Option<EventId> {
    CAUSE.try_with(Clone::clone).ok()
}

/// Polls `handler` as work that the event `id` causes. Events made inside carry its id as their causation. A task
/// that the handler spawns does not inherit it.
pub(super) fn handling<F: Future>(id: EventId, handler: F) -> impl Future<Output = F::Output> {
    CAUSE.scope(id, handler)
}

/// Returns the headers of work that the running task records: correlation id and trace of its context, and the event that
/// it handles. The trace has its own parent id.
pub(crate) fn current_headers() -> Vec<(String, String)> {
    let mut headers = Vec::new();
    let mut add = |name: &str, value: Option<String>| {
        headers.extend(value.map(|value| (name.to_owned(), value)));
    };
    Context::peek(|context| {
        add(names::CORRELATION, context.correlation().map(ToString::to_string));
        add(names::TRACE, context.trace().map(|trace| trace.child().to_string()));
    });
    add(names::CAUSATION, current().map(|id| id.to_string()));
    headers
}

/// The id of the event that a message carries, if it is one.
pub(crate) struct Cause(Option<EventId>);

impl Cause {
    /// Polls `handler` as work that the event causes. Makes no difference for a message that is not an event.
    pub(crate) async fn scope<F: Future>(self, handler: F) -> F::Output {
        match self.0 {
            Some(id) => handling(id, handler).await,
            None => handler.await,
        }
    }
}

/// Returns the context and the cause that the headers of a message name. A malformed header counts as absent.
pub(crate) fn scope_of(headers: &[(String, String)]) -> (Context, Cause) {
    let id = value(headers, names::ID).filter(|id| !id.is_empty());
    (context_of(headers), Cause(id.map(EventId::from)))
}

/// Returns the context that the headers of the event `id` name, and the event as the cause.
pub(crate) fn scope_under(id: EventId, headers: &[(String, String)]) -> (Context, Cause) {
    (context_of(headers), Cause(Some(id)))
}

fn context_of(headers: &[(String, String)]) -> Context {
    let mut context = Context::new();
    if let Some(id) = value(headers, names::CORRELATION).and_then(|text| text.parse().ok()) {
        context = context.with_correlation(id);
    }
    if let Some(trace) = value(headers, names::TRACE).and_then(|text| text.parse().ok()) {
        context = context.with_trace(trace);
    }
    context
}

fn value<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known == name).map(|(_, text)| &**text)
}
