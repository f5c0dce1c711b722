//! The context of a saga: correlation id and trace of the request that started it.

use buttress::context::{Context, CorrelationId, TraceContext};

use crate::saga::model::entry::Beginning;

/// Returns the context in which a new saga runs. A saga outlives its request, so it keeps neither the deadline nor what
/// the log does not have.
pub(in crate::saga) fn of_caller() -> Context {
    Context::peek(|caller| with(caller.correlation().cloned(), caller.trace().cloned()))
}

/// Returns the context in which a saga from the log runs. A text that is not an id, written by another program, is left
/// out.
pub(in crate::saga) fn of_log<P>(beginning: &Beginning<P>) -> Context {
    let Beginning { correlation, trace, .. } = beginning;
    let parsed = |text: &Option<String>| text.as_deref().and_then(|text| text.parse().ok());
    let trace = trace.as_deref().and_then(|text| text.parse().ok());
    with(parsed(correlation), trace)
}

fn with(correlation: Option<CorrelationId>, trace: Option<TraceContext>) -> Context {
    let mut context = Context::new();
    if let Some(id) = correlation {
        context = context.with_correlation(id);
    }
    if let Some(trace) = trace {
        context = context.with_trace(trace);
    }
    context
}

/// Writes the current context into the first entry of a log.
pub(in crate::saga) fn record<P>(beginning: &mut Beginning<P>) {
    Context::peek(|context| {
        beginning.correlation = context.correlation().map(ToString::to_string);
        beginning.trace = context.trace().map(ToString::to_string);
    });
}
