//! The metrics of this crate.

use crate::vocabulary::instrument::{Instrument, Unit, instruments};

const LAYER: &[&str] = &["layer"];
const KIND: &[&str] = &["layer", "kind"];

const PLAN: &[&str] = &["layer", "plan"];

/// Returns the counter of refusals called `name`, with the labels `layer` and `kind`.
const fn refusals(name: &'static str, description: &'static str) -> Instrument {
    Instrument::counter(name, KIND, description)
}

/// Returns a counter whose only label is the layer.
const fn counter(name: &'static str, description: &'static str) -> Instrument {
    Instrument::counter(name, LAYER, description)
}

/// Returns a gauge whose only label is the layer.
const fn gauge(name: &'static str, description: &'static str) -> Instrument {
    Instrument::gauge(name, Unit::Count, LAYER, description)
}

instruments! {
    /// Every metric of this crate.
    INSTRUMENTS;

    AGGREGATE_CALLS = counter("buttress.aggregate.calls", "Calls begun, if calls are counted.");
    AGGREGATE_PARTIAL = counter("buttress.aggregate.partial", "Calls answered without all of their optional parts.");
    AGGREGATE_FAILED = counter("buttress.aggregate.failed", "Calls that ended with the error of a required part, or at their time limit.");
    AGGREGATE_MISSING = Instrument::counter("buttress.aggregate.missing", &["layer", "part", "reason"], "Parts of calls that had no value, by the reason.");

    BALANCE_REFUSED = refusals("buttress.balance.refused", "Calls refused because no endpoint took them.");
    BALANCE_CALLS = counter("buttress.balance.calls", "Calls begun, if calls are counted.");
    BALANCE_PENDING = gauge("buttress.balance.pending", "Calls in progress.");
    BALANCE_ENDPOINTS = Instrument::gauge("buttress.balance.endpoints", Unit::Count, &["layer", "state"], "Endpoints, by their state.");
    BALANCE_PANICKED = counter("buttress.balance.panicked", "Calls made while no endpoint was in. They went to endpoints that were out.");
    BALANCE_FAILURES = counter("buttress.balance.failures", "Calls that an endpoint failed.");
    BALANCE_EJECTIONS = counter("buttress.balance.ejections", "Endpoints ejected because they failed too often.");
    BALANCE_SPARED = counter("buttress.balance.spared", "Failures that ejected no endpoint because half of the endpoints were out.");
    BALANCE_NOT_READY = counter("buttress.balance.not_ready", "How many times an endpoint failed to become ready.");
    BALANCE_CHANGES = counter("buttress.balance.changes", "Changes of the set of endpoints.");
    BALANCE_RESOLVER_AGE = Instrument::gauge("buttress.balance.resolver.age", Unit::Seconds, LAYER, "The time since the resolver returned the current set, if there is a resolver.");
    BALANCE_RESOLVER_FAILED = counter("buttress.balance.resolver.failed", "Failures of the resolver, if there is one.");

    BULKHEAD_REFUSED = refusals("buttress.bulkhead.refused", "Calls refused because every permit was taken.");
    BULKHEAD_ADMITTED = counter("buttress.bulkhead.admitted", "Permits granted, if calls are counted.");
    BULKHEAD_USED = gauge("buttress.bulkhead.permits.used", "Permits in use. Keyed layers do not report this number.");
    BULKHEAD_LIMIT = gauge("buttress.bulkhead.permits.limit", "Calls that may run concurrently. Keyed layers do not report this number.");
    BULKHEAD_WAITING = gauge("buttress.bulkhead.waiting", "Calls that wait for a permit. Keyed layers do not report this number.");

    CIRCUIT_REFUSED = refusals("buttress.circuit_breaker.refused", "Calls refused by a circuit.");
    CIRCUIT_TRANSITIONS = Instrument::counter("buttress.circuit_breaker.transitions", &["layer", "to"], "Changes of a circuit's state, by the new state.");
    CIRCUIT_STATE = Instrument::gauge("buttress.circuit_breaker.state", Unit::Count, &["layer", "state"], "1 for the state that the circuit is in, 0 for the other states. Keyed layers do not report this number.");
    CIRCUIT_FAILURES = counter("buttress.circuit_breaker.failures", "Calls that failed.");
    CIRCUIT_ADMITTED = counter("buttress.circuit_breaker.admitted", "Calls admitted, if calls are counted.");
    CIRCUIT_SUCCESSES = counter("buttress.circuit_breaker.successes", "Calls that succeeded, if calls are counted.");
    CIRCUIT_WINDOW_CALLS = gauge("buttress.circuit_breaker.window.calls", "Calls in the window of a circuit. Keyed layers do not report this number.");
    CIRCUIT_WINDOW_FAILURES = gauge("buttress.circuit_breaker.window.failures", "Failures in the window of a circuit. Keyed layers do not report this number.");
    CIRCUIT_WINDOW_SLOW = gauge("buttress.circuit_breaker.window.slow", "Slow calls in the window of a circuit. Keyed layers do not report this number.");

    FALLBACK_USED = counter("buttress.fallback.used", "Calls that the fallback answered.");
    FALLBACK_FAILED = counter("buttress.fallback.failed", "Calls whose fallback failed too.");
    FALLBACK_CALLS = counter("buttress.fallback.calls", "Calls begun, if calls are counted.");

    GATEWAY_REFUSED = refusals("buttress.gateway.refused", "Requests that a gateway or one of its routes refused.");
    GATEWAY_REQUESTS = Instrument::counter("buttress.gateway.requests", &["layer", "route", "outcome"], "Requests of a route that ended, by their end.");
    GATEWAY_RUNNING = Instrument::gauge("buttress.gateway.running", Unit::Count, &["layer", "route"], "Requests of a route that have not ended.");
    GATEWAY_BACKEND = Instrument::counter("buttress.gateway.backend.requests", &["layer", "route", "backend"], "Requests sent to a backend, by its number in the route.");

    HEALTH_CHECK_STATE = Instrument::gauge("buttress.health.check.state", Unit::Count, &["layer", "check", "state"], "1 for the state that the health check is in, 0 for the other states.");
    HEALTH_STATE = Instrument::gauge("buttress.health.state", Unit::Count, &["layer", "state"], "1 for the state that the service is in, 0 for the other states.");

    IDEMPOTENCY_REFUSED = refusals("buttress.idempotency.refused", "Calls that an idempotency layer refused.");
    IDEMPOTENCY_REPLAYED = counter("buttress.idempotency.replayed", "Calls that got the answer of an earlier call with their key.");
    IDEMPOTENCY_TAKEN_OVER = counter("buttress.idempotency.taken_over", "Calls that waited for another call and ran in its place.");
    IDEMPOTENCY_CLAIMS_LOST = counter("buttress.idempotency.claims_lost", "Calls whose key another call took over while the handler ran.");
    IDEMPOTENCY_NOT_KEPT = counter("buttress.idempotency.results_not_kept", "Calls whose result could not be kept.");
    IDEMPOTENCY_STORE_FAILED = counter("buttress.idempotency.store_failed", "Operations of the store that failed.");
    IDEMPOTENCY_STARTED = counter("buttress.idempotency.started", "Calls that got their key.");
    IDEMPOTENCY_WAITED = counter("buttress.idempotency.waited", "Calls that waited for another call with their key.");
    IDEMPOTENCY_FAILED = counter("buttress.idempotency.failed", "Calls that got their key and left no answer.");
    IDEMPOTENCY_UNPROTECTED = counter("buttress.idempotency.unprotected", "Calls that ran without protection because the store had failed.");
    IDEMPOTENCY_PASSED = counter("buttress.idempotency.passed", "Calls without a key, if calls are counted.");
    IDEMPOTENCY_RUNNING = gauge("buttress.idempotency.running", "Calls that have their key now.");
    IDEMPOTENCY_WAITING = gauge("buttress.idempotency.waiting", "Calls that wait for another call with their key.");
    IDEMPOTENCY_DETACHED = gauge("buttress.idempotency.detached", "Handlers that run detached.");
    IDEMPOTENCY_CLAIMS = gauge("buttress.idempotency.store.claims", "Claims in the store, of every process, if the store counts them.");
    IDEMPOTENCY_RESULTS = gauge("buttress.idempotency.store.results", "Results in the store, if the store counts them.");
    IDEMPOTENCY_EVICTED = counter("buttress.idempotency.store.evicted", "Results removed before they expired because the store was full.");

    KEYED_REFUSED = refusals("buttress.keyed.refused", "Calls refused because a keyed layer had no place for their key.");
    KEYED_KEYS = Instrument::gauge("buttress.keyed.keys", Unit::Count, &["layer", "pattern"], "Keys that a keyed layer holds.");
    KEYED_LIMIT = Instrument::gauge("buttress.keyed.limit", Unit::Count, &["layer", "pattern"], "The most keys that a keyed layer holds.");

    QUEUE_TIMED_OUT = refusals("buttress.queue.timed_out", "Calls that a queue did not admit within their longest wait.");

    RATE_LIMIT_REFUSED = refusals("buttress.rate_limit.refused", "Calls refused because the tokens were spent.");
    RATE_LIMIT_ADMITTED = counter("buttress.rate_limit.admitted", "Calls admitted, if calls are counted.");
    RATE_LIMIT_PLAN_REFUSED = Instrument::counter("buttress.rate_limit.plan.refused", PLAN, "Calls of a plan refused because the tokens of their key were spent.");
    RATE_LIMIT_PLAN_ADMITTED = Instrument::counter("buttress.rate_limit.plan.admitted", PLAN, "Calls of a plan admitted, if calls are counted.");
    RATE_LIMIT_PLAN_LIMIT = Instrument::gauge("buttress.rate_limit.plan.tokens.limit", Unit::Count, PLAN, "The size of the bucket of each key of a plan.");
    RATE_LIMIT_PLAN_REFILL = Instrument::gauge("buttress.rate_limit.plan.refill_rate", Unit::Count, PLAN, "Tokens per second that are refilled for each key of a plan.");
    RATE_LIMIT_AVAILABLE = gauge("buttress.rate_limit.tokens.available", "Tokens that can be taken now. Keyed layers do not report this number.");
    RATE_LIMIT_LIMIT = gauge("buttress.rate_limit.tokens.limit", "The size of the bucket or the window. Keyed layers do not report this number.");
    RATE_LIMIT_WAITING = gauge("buttress.rate_limit.waiting", "Calls that wait for tokens. Keyed layers do not report this number.");

    RETRY_RETRIES = counter("buttress.retry.retries", "Attempts after the first.");
    RETRY_EXHAUSTED = counter("buttress.retry.exhausted", "Calls that ended with a failure that was worth another attempt.");
    RETRY_NOT_MADE = counter("buttress.retry.not_made", "Further attempts that were decided on but not made.");
    RETRY_CALLS = counter("buttress.retry.calls", "Calls begun, if calls are counted.");
    RETRY_BUDGET = gauge("buttress.retry.budget.available", "Retries that the budget has left, if there is a budget.");

    SIDECAR_REQUESTS = Instrument::counter("buttress.sidecar.requests", &["layer", "outcome"], "Requests that ended, by their end.");
    SIDECAR_RUNNING = gauge("buttress.sidecar.running", "Requests that have not ended.");

    SHADOW_SHARE = gauge("buttress.shadow.share", "The share of requests that are mirrored, from 0 to 1.");
    SHADOW_RUNNING = gauge("buttress.shadow.running", "Mirrored calls in progress.");
    SHADOW_MIRRORED = counter("buttress.shadow.mirrored", "Mirrored calls begun.");
    SHADOW_DROPPED = counter("buttress.shadow.dropped", "Requests that were not mirrored because every slot was taken, or because their body was not recorded whole.");
    SHADOW_ENDS = Instrument::counter("buttress.shadow.ends", &["layer", "end"], "Mirrored calls that ended, by the result of their comparison or the reason why there is none.");

    SPLIT_SHARE = gauge("buttress.split.share", "The share of the new side, from 0 to 1.");
    SPLIT_CALLS = Instrument::counter("buttress.split.calls", &["layer", "side"], "Requests by their first side, if calls are counted.");
    SPLIT_FORCED = counter("buttress.split.forced", "Requests that chose their side, if calls are counted.");
    SPLIT_FELL_BACK = counter("buttress.split.fell_back", "Requests of the new side that the old side answered.");

    TIME_LIMIT_TIMED_OUT = refusals("buttress.time_limit.timed_out", "Calls that were cancelled at their time limit.");
    TIME_LIMIT_LIMIT = Instrument::gauge("buttress.time_limit.limit", Unit::Seconds, LAYER, "The time limit in force.");
    TIME_LIMIT_CALLS = counter("buttress.time_limit.calls", "Calls begun, if calls are counted.");

    CALL_DURATION = Instrument::histogram("buttress.call.duration", Unit::Seconds, &["layer", "outcome"], "The duration of calls through a duration layer, by their outcome.");
}
