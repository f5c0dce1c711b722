//! [`Event`]: data in an envelope with the attributes of CloudEvents.

use std::borrow::Cow;
use std::future::Future;
use std::time::SystemTime;

use buttress::context::{Context, CorrelationId, TraceContext};

use super::cause;
use super::id::EventId;

/// Data in an envelope with the attributes of [CloudEvents 1.0](https://github.com/cloudevents/spec/tree/v1.0.2).
///
/// [`Events`](super::Events) makes an event, [`encode`](Event::encode) turns it into a message of the outbox, and
/// [`read`](Event::read) and [`decode`](Event::decode) turn a delivery of a transport into an event again.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event<T> {
    /// The id. It is unique for one `source`, and equal in all deliveries of the event.
    pub id: EventId,
    /// The kind of the event, CloudEvents' `type`.
    pub kind: Cow<'static, str>,
    /// The entity that the event describes. Events of one subject are delivered in order. Empty if another system
    /// wrote none.
    pub subject: String,
    /// The service that wrote the event. A received text is not a [`Name`](buttress::Name), because names are kept
    /// until the process ends.
    pub source: Cow<'static, str>,
    /// When the event happened. `None` if another system wrote no time.
    pub time: Option<SystemTime>,
    /// The version of the data. 1 if another system wrote none.
    pub version: u32,
    /// The media type of the encoded data, CloudEvents' `datacontenttype`.
    pub content_type: Option<Cow<'static, str>>,
    /// The correlation id of the request that caused the event.
    pub correlation: Option<CorrelationId>,
    /// The id of the event that was being handled when this one was made.
    pub causation: Option<EventId>,
    /// The place in a distributed trace.
    pub trace: Option<TraceContext>,
    /// All other headers, in their order.
    pub headers: Vec<(String, String)>,
    /// The data.
    pub data: T,
}

impl<T> Event<T> {
    /// Creates an event with the correlation id, the trace and the causation of the running task. The data has
    /// version 1.
    ///
    /// The id is the same in every delivery, and receivers recognize a repetition by it. `MessageId::random(&rng)`
    /// makes a new one: see [`MessageId::random`](crate::outbox::MessageId::random). A program makes one generator, with
    /// [`buttress::Rng::default`], and uses it for all ids.
    pub fn new(
        id: impl Into<EventId>,
        source: impl Into<Cow<'static, str>>,
        kind: impl Into<Cow<'static, str>>,
        subject: impl Into<String>,
        data: T,
    ) -> Self {
        let (correlation, trace) = Context::peek(|context| {
            (context.correlation().cloned(), context.trace().map(TraceContext::child))
        });
        Self {
            id: id.into(),
            kind: kind.into(),
            subject: subject.into(),
            source: source.into(),
            time: None,
            version: 1,
            content_type: None,
            correlation,
            causation: cause::current(),
            trace,
            headers: Vec::new(),
            data,
        }
    }

    /// Returns a context with the correlation id and the trace of the event, for work that the event causes. The
    /// context has no deadline, no identity and the default priority.
    pub fn context(&self) -> Context {
        let mut context = Context::new();
        if let Some(id) = &self.correlation {
            context = context.with_correlation(id.clone());
        }
        if let Some(trace) = &self.trace {
            context = context.with_trace(trace.clone());
        }
        context
    }

    /// Polls `handler` in the [context](Self::context) of the event, with the event as the causation of events that
    /// `handler` makes. A task that `handler` spawns does not inherit the causation.
    pub fn scope<F: Future>(&self, handler: F) -> impl Future<Output = F::Output> + use<F, T> {
        self.context().scope(cause::handling(self.id.clone(), handler))
    }

    /// Replaces the data by the result of `f` for the kind, the version and the data.
    pub(super) fn try_map<D, E>(
        self,
        f: impl FnOnce(&str, u32, T) -> Result<D, E>,
    ) -> Result<Event<D>, E> {
        let Self { id, kind, subject, source, time, version, content_type, .. } = self;
        let Self { correlation, causation, trace, headers, data, .. } = self;
        let data = f(&kind, version, data)?;
        Ok(Event {
            id,
            kind,
            subject,
            source,
            time,
            version,
            content_type,
            correlation,
            causation,
            trace,
            headers,
            data,
        })
    }
}
