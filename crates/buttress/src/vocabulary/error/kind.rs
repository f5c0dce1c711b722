//! [`ErrorKind`], and the table of the properties of each kind.

use std::fmt;

/// Makes the enum and all properties of a kind from one table, so that no property can miss a kind.
///
/// - `name`: the kind in kebab case.
/// - `layer`: the noun of the layer that refused, at the beginning of the message.
/// - `says`: the rest of a message without a number.
/// - `metric`: the counter of refusals.
/// - `status`: the HTTP status.
/// - `grpc`: the gRPC status code. `doc/statuscodes.md` of gRPC gives RESOURCE_EXHAUSTED (8) to a server without free
///   threads, and UNAVAILABLE (14) to one that shuts down. So a layer at capacity has RESOURCE_EXHAUSTED.
/// - `summary`: the sentence for a caller outside of the process.
/// - `reached`: whether the service may have done the work of the request.
/// - `lasts`: whether another attempt with the same request gets the same refusal.
macro_rules! kinds {
    ($(
        $(#[doc = $doc:literal])+
        $kind:ident {
            name: $name:literal, layer: $layer:literal, says: $says:literal, metric: $metric:ident,
            status: $status:literal, grpc: $grpc:literal, summary: $summary:literal, reached: $reached:literal, lasts: $lasts:literal
        }
    )+) => {
        /// The kind of a refusal or timeout in an [`Error`](crate::Error).
        ///
        /// ```
        /// # use buttress::{Error, ErrorKind};
        /// fn is_overload(error: &Error) -> bool {
        ///     matches!(error.kind(), ErrorKind::RateLimited | ErrorKind::BulkheadFull)
        /// }
        /// ```
        #[non_exhaustive]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum ErrorKind {
            $($(#[doc = $doc])+ $kind,)+
        }

        /// The numbers of the kinds, as patterns.
        #[allow(non_upper_case_globals)]
        mod number {
            $(pub(super) const $kind: u8 = super::ErrorKind::$kind as u8;)+
        }

        impl ErrorKind {
            /// Every kind, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$kind),+];

            /// Returns the kind in kebab case, for logs, metrics and problem documents.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$kind => $name,)+ }
            }

            /// Returns the HTTP status that answers this kind.
            #[must_use]
            pub const fn http_status(self) -> u16 {
                match self { $(Self::$kind => $status,)+ }
            }

            /// Returns the gRPC status code that answers this kind.
            #[must_use]
            pub const fn grpc_code(self) -> i32 {
                match self { $(Self::$kind => $grpc,)+ }
            }

            /// Returns a sentence for a caller outside of the process. It names no layer, limit,
            /// lease or key.
            #[must_use]
            pub const fn summary(self) -> &'static str {
                match self { $(Self::$kind => $summary,)+ }
            }

            /// Returns `true` if another attempt with the same request gets the same refusal.
            #[must_use]
            pub const fn is_lasting(self) -> bool {
                match self { $(Self::$kind => $lasts,)+ }
            }

            /// Returns the noun of the layer that refused, for messages.
            pub(super) const fn layer(self) -> &'static str {
                match self { $(Self::$kind => $layer,)+ }
            }

            /// Returns `true` if the time of an error of this kind is a limit that passed.
            pub(super) const fn is_timeout(self) -> bool {
                matches!(
                    self,
                    Self::TimedOut | Self::DeadlineExceeded | Self::QueueTimeout | Self::NoEndpoint
                )
            }

            /// Returns the end of a message without numbers.
            pub(super) const fn says(self) -> &'static str {
                match self { $(Self::$kind => $says,)+ }
            }

            /// Returns `true` if the service may have done the work of the request.
            pub(super) const fn may_have_reached(self) -> bool {
                match self { $(Self::$kind => $reached,)+ }
            }

            /// Returns the counter of refusals of this kind.
            #[cfg(feature = "metrics")]
            pub(crate) const fn metric(self) -> &'static crate::vocabulary::instrument::Instrument {
                match self { $(Self::$kind => &crate::vocabulary::metric_names::$metric,)+ }
            }

            /// Returns the kind with this number. A number without a kind is read as a timeout,
            /// because a timeout promises nothing about the service.
            pub(super) const fn of_number(number: u8) -> Self {
                match number {
                    $(number::$kind => Self::$kind,)+
                    _ => Self::TimedOut,
                }
            }
        }
    };
}

kinds! {
    /// A circuit breaker is open, or half-open with no free probe.
    CircuitOpen {
        name: "circuit-open", layer: "circuit breaker", says: " is not taking calls",
        metric: CIRCUIT_REFUSED,
        status: 503, grpc: 14, summary: "the service is unavailable for the moment",
        reached: false, lasts: false
    }
    /// A rate limiter had too few tokens left.
    RateLimited {
        name: "rate-limited", layer: "rate limiter", says: " exhausted",
        metric: RATE_LIMIT_REFUSED,
        status: 429, grpc: 8, summary: "too many requests",
        reached: false, lasts: false
    }
    /// A bulkhead was at capacity, and its queue, if it has one, was full.
    BulkheadFull {
        name: "bulkhead-full", layer: "bulkhead", says: " at capacity",
        metric: BULKHEAD_REFUSED,
        status: 503, grpc: 8, summary: "the service is at capacity",
        reached: false, lasts: false
    }
    /// A call waited in a queue for its longest wait without being admitted.
    QueueTimeout {
        name: "queue-timeout", layer: "queue", says: " did not admit the call",
        metric: QUEUE_TIMED_OUT,
        status: 503, grpc: 8, summary: "the service is at capacity",
        reached: false, lasts: false
    }
    /// A keyed layer holds its greatest number of keys and can forget none of them.
    TooManyKeys {
        name: "too-many-keys", layer: "keyed layer", says: " holds too many keys",
        metric: KEYED_REFUSED,
        status: 503, grpc: 8, summary: "the service is at capacity",
        reached: false, lasts: false
    }
    /// The call was still running when its time limit passed. The service may have been reached.
    TimedOut {
        name: "timed-out", layer: "time limit", says: " passed",
        metric: TIME_LIMIT_TIMED_OUT,
        status: 504, grpc: 4, summary: "the service did not answer in time",
        reached: true, lasts: false
    }
    /// The deadline of the request passed while the call was running, before the time limit of the layer. Or it passed
    /// while a balancer had no endpoint, or before the call began. The service may have been reached, unless
    /// [`never_reached_service`](crate::Error::never_reached_service) is `true`. See [`context`](crate::context).
    DeadlineExceeded {
        name: "deadline-exceeded", layer: "the deadline of the request", says: " passed",
        metric: TIME_LIMIT_TIMED_OUT,
        status: 504, grpc: 4, summary: "the deadline of the request passed before the service answered",
        reached: true, lasts: false
    }
    /// The request has no idempotency key, and the layer requires one.
    KeyMissing {
        name: "key-missing", layer: "idempotency", says: ": the request has no key, and the layer requires one",
        metric: IDEMPOTENCY_REFUSED,
        status: 400, grpc: 3, summary: "the request has no idempotency key, and needs one",
        reached: false, lasts: true
    }
    /// The idempotency key is empty, too long, or contains control characters.
    KeyInvalid {
        name: "key-invalid", layer: "idempotency", says: ": the key cannot be used",
        metric: IDEMPOTENCY_REFUSED,
        status: 400, grpc: 3,
        summary: "the idempotency key cannot be used: it is empty, too long, or holds control characters",
        reached: false, lasts: true
    }
    /// The idempotency key was used before, for a request that asks for something else.
    KeyReused {
        name: "key-reused", layer: "idempotency",
        says: ": the key was used for a request that asks for something else",
        metric: IDEMPOTENCY_REFUSED,
        status: 422, grpc: 9, summary: "the idempotency key was used for a request that asks for something else",
        reached: false, lasts: true
    }
    /// Another call with the same idempotency key is still running.
    KeyInFlight {
        name: "key-in-flight", layer: "idempotency", says: ": a call with this key is running",
        metric: IDEMPOTENCY_REFUSED,
        status: 409, grpc: 10, summary: "a request with this idempotency key is still running",
        reached: false, lasts: false
    }
    /// An earlier call with this idempotency key did its work, but its result is not stored. The result
    /// was too large, or the store failed.
    ResultNotKept {
        name: "result-not-kept", layer: "idempotency",
        says: ": a call with this key did its work, and its result was not kept",
        metric: IDEMPOTENCY_REFUSED,
        status: 422, grpc: 6,
        summary: "a request with this idempotency key was carried out, and its result was not kept",
        reached: true, lasts: true
    }
    /// Another call took the idempotency key over while the handler ran here. The service was
    /// reached.
    ClaimLost {
        name: "claim-lost", layer: "idempotency",
        says: ": the key was taken over while its handler ran; send the request again with it",
        metric: IDEMPOTENCY_REFUSED,
        status: 503, grpc: 14, summary: "the outcome of the request is unknown; send it again with the same idempotency key",
        reached: true, lasts: false
    }
    /// The store of an idempotency layer is unavailable, slow or busy, and the layer fails closed.
    StoreUnavailable {
        name: "store-unavailable", layer: "idempotency", says: ": the store does not answer",
        metric: IDEMPOTENCY_REFUSED,
        status: 503, grpc: 14, summary: "the service is unavailable for the moment",
        reached: false, lasts: false
    }
    /// The store of an idempotency layer cannot read or keep the entry of this key.
    StoreFailed {
        name: "store-failed", layer: "idempotency",
        says: ": the store cannot read or keep what belongs to the key",
        metric: IDEMPOTENCY_REFUSED,
        status: 503, grpc: 14, summary: "the service is unavailable for the moment",
        reached: false, lasts: false
    }
    /// The greatest number of detached handlers is running.
    DetachedFull {
        name: "detached-full", layer: "idempotency", says: " at capacity",
        metric: IDEMPOTENCY_REFUSED,
        status: 503, grpc: 8, summary: "the service is at capacity",
        reached: false, lasts: false
    }
    /// The layer drains before a shutdown, and starts no handler.
    ShuttingDown {
        name: "shutting-down", layer: "idempotency", says: " is shutting down",
        metric: IDEMPOTENCY_REFUSED,
        status: 503, grpc: 14, summary: "the service is shutting down",
        reached: false, lasts: false
    }
    /// A gateway has no route for this request.
    NoRoute {
        name: "no-route", layer: "gateway", says: " has no route for the request",
        metric: GATEWAY_REFUSED,
        status: 404, grpc: 12, summary: "there is no route for the request",
        reached: false, lasts: true
    }
    /// The authorization service of a route found no valid credentials in the request.
    Unauthenticated {
        name: "unauthenticated", layer: "route", says: " found no valid credentials in the request",
        metric: GATEWAY_REFUSED,
        status: 401, grpc: 16, summary: "the request has no valid credentials",
        reached: false, lasts: true
    }
    /// The authorization service of a route knows the caller, and denied this request.
    Forbidden {
        name: "forbidden", layer: "route", says: " denies the request",
        metric: GATEWAY_REFUSED,
        status: 403, grpc: 7, summary: "the request is not allowed",
        reached: false, lasts: true
    }
    /// The authorization service of a route failed. It is unknown whether the request is allowed.
    AuthUnavailable {
        name: "auth-unavailable", layer: "route",
        says: " cannot check the authorization of the request",
        metric: GATEWAY_REFUSED,
        status: 503, grpc: 14, summary: "the service is unavailable for the moment",
        reached: false, lasts: false
    }
    /// Every backend of a route failed to become ready.
    NoBackend {
        name: "no-backend", layer: "route", says: " has no backend that becomes ready",
        metric: GATEWAY_REFUSED,
        status: 503, grpc: 14, summary: "the service is unavailable for the moment",
        reached: false, lasts: false
    }
    /// No endpoint of a balancer took the call within its longest wait.
    NoEndpoint {
        name: "no-endpoint", layer: "balancer", says: " has no endpoint that takes the call",
        metric: BALANCE_REFUSED,
        status: 503, grpc: 14, summary: "the service is unavailable for the moment",
        reached: false, lasts: false
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
