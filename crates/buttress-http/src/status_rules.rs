//! [`StatusRules`]: the parts that the classifiers by status share.

use std::time::Duration;

use buttress::{Classify, Clock, Outcome};
use http::StatusCode;

use crate::head::{Head, HttpResponse};
use crate::hint;

/// The rules of a classifier by status: for errors, for statuses and for codes of gRPC.
#[derive(Clone)]
pub(crate) struct StatusRules<C, F> {
    pub errors: C,
    pub failures: F,
    pub grpc_failures: fn(i32) -> bool,
    /// The clock that the date of a `Retry-After` is compared with.
    pub clock: Clock,
}

impl<C, F> StatusRules<C, F> {
    pub(crate) fn errors<T>(self, errors: T) -> StatusRules<T, F> {
        let Self { failures, grpc_failures, clock, .. } = self;
        StatusRules { errors, failures, grpc_failures, clock }
    }

    pub(crate) fn failures<T: Fn(StatusCode) -> bool>(self, failures: T) -> StatusRules<C, T> {
        let Self { errors, grpc_failures, clock, .. } = self;
        StatusRules { errors, failures, grpc_failures, clock }
    }

    /// Returns the verdict on a result. `judge` judges a response.
    pub(crate) fn classify<Res, E>(
        &self,
        result: &Result<Res, E>,
        judge: impl FnOnce(Head<'_>) -> Outcome,
    ) -> Outcome
    where
        Res: HttpResponse,
        C: Classify<Res, E>,
    {
        match result {
            Ok(response) => judge(response.head()),
            Err(_) => self.errors.classify(result),
        }
    }

    /// Returns the hint of a result.
    pub(crate) fn retry_after<Res, E>(&self, result: &Result<Res, E>) -> Option<Duration>
    where
        Res: HttpResponse,
        C: Classify<Res, E>,
    {
        match result {
            Ok(response) => hint::of(response.head(), &self.clock),
            Err(_) => self.errors.retry_after(result),
        }
    }
}

/// Makes a classifier of the field `rules`, whose method `judge` judges a response: its setters of the rules for gRPC
/// and of the clock, and `Default`. The last part is added to its `Classify`.
macro_rules! by_rules {
    ($name:ident, $(#[$grpc_failures:meta])+ grpc_failures, { $($more:tt)* }) => {
        impl<C, F> $name<C, F> {
            $(#[$grpc_failures])+
            pub fn grpc_failures(mut self, failures: fn(i32) -> bool) -> Self {
                self.rules.grpc_failures = failures;
                self
            }

            /// Compares a `Retry-After` date with the wall time of `clock`. Default: tokio's clock.
            pub fn clock(mut self, clock: Clock) -> Self {
                self.rules.clock = clock;
                self
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::route()
            }
        }

        impl<Res, E, C, F> Classify<Res, E> for $name<C, F>
        where
            Res: HttpResponse,
            C: Classify<Res, E>,
            F: Fn(StatusCode) -> bool,
        {
            fn classify(&self, result: &Result<Res, E>) -> Outcome {
                self.rules.classify(result, |head| self.judge(head))
            }

            fn retry_after(&self, result: &Result<Res, E>) -> Option<Duration> {
                self.rules.retry_after(result)
            }

            $($more)*
        }
    };
}
pub(crate) use by_rules;
