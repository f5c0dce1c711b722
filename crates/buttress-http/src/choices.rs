//! The choices of `.http()` and `.grpc()` for each layer. They differ in the type of a refusal's answer only.

/// Implements an extension trait for every layer that still has its default rejector and classifier.
macro_rules! choices {
    ($extension:ident, $Choices:ident, $method:ident, $respond:ident) => {
        impl<M, O: Own, U> $extension for BulkheadLayer<AsError, M, O, U> {
            type $Choices = BulkheadLayer<$respond, M, O, U>;

            fn $method(self) -> Self::$Choices {
                self.reject($respond)
            }
        }

        impl<W, M> $extension for RateLimitLayer<AsError, W, M> {
            type $Choices = RateLimitLayer<$respond, W, M>;

            fn $method(self) -> Self::$Choices {
                self.reject($respond)
            }
        }

        impl<L> $extension for TimeLimitLayer<L, AsError> {
            type $Choices = TimeLimitLayer<L, $respond>;

            fn $method(self) -> Self::$Choices {
                self.reject($respond)
            }
        }

        impl<K, X, U> $extension for KeyedBulkheadLayer<K, X, AsError, U> {
            type $Choices = KeyedBulkheadLayer<K, X, $respond, U>;

            fn $method(self) -> Self::$Choices {
                self.reject($respond)
            }
        }

        impl<K, X, C, P: Rules<K>> $extension for KeyedRateLimitLayer<K, X, AsError, C, P> {
            type $Choices = KeyedRateLimitLayer<K, X, $respond, C, P>;

            fn $method(self) -> Self::$Choices {
                self.reject($respond)
            }
        }

        impl<K, X, U> $extension for KeyedCircuitBreakerLayer<K, X, ServiceErrors, AsError, U> {
            type $Choices = KeyedCircuitBreakerLayer<K, X, ByStatus, $respond, U>;

            fn $method(self) -> Self::$Choices {
                self.classify(ByStatus::route()).reject($respond)
            }
        }

        impl<M, O: Own, U> $extension for CircuitBreakerLayer<ServiceErrors, AsError, M, O, U> {
            type $Choices = CircuitBreakerLayer<ByStatus, $respond, M, O, U>;

            fn $method(self) -> Self::$Choices {
                self.classify(ByStatus::route()).reject($respond)
            }
        }

        impl<S, X, T> $extension for Balance<S, X, T, ServiceErrors, AsError> {
            type $Choices = Balance<S, X, T, ByStatus, $respond>;

            fn $method(self) -> Self::$Choices {
                self.classify(ByStatus::route()).reject($respond)
            }
        }

        impl $extension for RetryLayer<RetryableErrors, ByClone> {
            type $Choices = RetryLayer<RetryableStatus, IdempotentRequests>;

            fn $method(self) -> Self::$Choices {
                self.classify(RetryableStatus::route()).clone_with(IdempotentRequests)
            }
        }

        impl<F: AnswersForResponses> $extension for FallbackLayer<F, AnyError> {
            type $Choices = FallbackLayer<F, ByStatus>;

            fn $method(self) -> Self::$Choices {
                self.classify(ByStatus::route().refusals(Outcome::Failure))
            }
        }

        impl $extension for SidecarLayer<ServiceErrors, RetryableErrors, ByClone, AsError> {
            type $Choices = SidecarLayer<ByStatus, RetryableStatus, IdempotentRequests, $respond>;

            fn $method(self) -> Self::$Choices {
                self.classify(ByStatus::route())
                    .retry_on(RetryableStatus::route())
                    .clone_with(IdempotentRequests)
                    .reject($respond)
            }
        }
    };
}

pub(crate) use choices;
