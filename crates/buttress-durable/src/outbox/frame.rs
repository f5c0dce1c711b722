//! `publisher!` and `publish_settings!`: the frame of the publisher of a broker.

/// Writes the parts that the publishers of all brokers share, for a `Publisher` with a method `publish` and a
/// `PublishError` with `is_lasting` and the variant `Refused`: the [`Service`](tower::Service) of a
/// [`Message`](crate::outbox::Message), `Debug` with the name of the topic, and the classifier `PublishErrors`, whose
/// documentation is the argument.
///
/// The crates of brokers use it. It is no part of the API.
#[doc(hidden)]
#[macro_export]
macro_rules! publisher {
    ($published:ty, |$publisher:ident| $topic:expr, $(#[$doc:meta])+) => {
        impl ::tower::Service<$crate::outbox::Message> for Publisher {
            type Response = $published;
            type Error = PublishError;
            type Future = ::std::pin::Pin<
                ::std::boxed::Box<
                    dyn ::std::future::Future<Output = Result<$published, PublishError>> + Send,
                >,
            >;

            fn poll_ready(
                &mut self,
                _: &mut ::std::task::Context<'_>,
            ) -> ::std::task::Poll<Result<(), PublishError>> {
                ::std::task::Poll::Ready(Ok(()))
            }

            fn call(&mut self, message: $crate::outbox::Message) -> Self::Future {
                let publisher = self.clone();
                ::std::boxed::Box::pin(async move { publisher.publish(message).await })
            }
        }

        impl ::std::fmt::Debug for Publisher {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                let $publisher = self;
                f.debug_struct("Publisher").field("topic", &$topic).finish_non_exhaustive()
            }
        }

        $(#[$doc])+
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct PublishErrors;

        impl<T> ::buttress::Classify<T, PublishError> for PublishErrors {
            fn classify(&self, result: &Result<T, PublishError>) -> ::buttress::Outcome {
                match result {
                    Ok(_) => ::buttress::Outcome::Success,
                    Err(error) if error.is_lasting() => ::buttress::Outcome::Failure,
                    Err(PublishError::Refused { .. }) => ::buttress::Outcome::Failure,
                    Err(_) => ::buttress::Outcome::Ignored,
                }
            }
        }
    };
}

/// Writes `Publish`, the settings of a publisher: a limit and a clock, and the sizes that only one broker has. The
/// first argument is the shortest limit. The documentation of each setter is an argument too, because it names the
/// broker.
///
/// The crates of brokers use it. It is no part of the API.
#[doc(hidden)]
#[macro_export]
macro_rules! publish_settings {
    (
        $(#[$limit:meta])+
        limit: at least $least:expr;
        $(#[$clock:meta])+
        clock;
        $($(#[$doc:meta])+ $field:ident($given:ident: $type:ty) = $default:expr, in $bounds:expr;)*
    ) => {
        /// The settings of a publisher.
        #[derive(Clone, Debug)]
        #[must_use]
        pub struct Publish {
            limit: ::std::time::Duration,
            clock: ::buttress::Clock,
            $($field: $type,)*
        }

        impl ::std::default::Default for Publish {
            fn default() -> Self {
                Self {
                    limit: ::std::time::Duration::from_secs(5),
                    clock: ::buttress::Clock::default(),
                    $($field: $default,)*
                }
            }
        }

        impl Publish {
            /// Creates the default settings.
            pub fn new() -> Self {
                Self::default()
            }

            ::buttress::__setters! {
                $(#[$limit])+
                limit(limit: ::std::time::Duration);

                $(#[$clock])+
                clock(clock: ::buttress::Clock);

                $(
                    $(#[$doc])+
                    $field($given: $type);
                )*
            }

            pub(crate) fn check(&self) -> Result<(), ::buttress::InvalidConfig> {
                let limits = $least..=::std::time::Duration::from_secs(3600);
                ::buttress::InvalidConfig::check_range("limit", self.limit, limits)?;
                $(::buttress::InvalidConfig::check_range(
                    ::std::stringify!($field),
                    self.$field,
                    $bounds,
                )?;)*
                Ok(())
            }
        }
    };
}

#[cfg(all(test, not(buttress_loom)))]
#[allow(unreachable_pub, reason = "the crates of brokers make public settings with it")]
mod tests {
    use std::time::Duration;

    use buttress::VirtualClock;

    const MS: Duration = Duration::from_millis(1);

    crate::publish_settings! {
        /// Sets the limit.
        limit: at least MS;
        /// Sets the clock.
        clock;
        /// Sets the largest payload.
        largest(bytes: usize) = 16, in 1..=32;
    }

    #[test]
    fn a_publisher_has_the_settings_that_were_set() {
        let time = VirtualClock::new();
        let set = Publish::new().limit(7 * MS).clock(time.clock()).largest(32);
        assert_eq!((set.limit, set.largest, Publish::new().largest), (7 * MS, 32, 16));
        time.advance(9 * MS);
        assert_eq!(set.clock.now(), time.clock().now());
        assert_eq!(set.check(), Ok(()));
        for (wrong, field) in [(set.clone().limit(MS / 2), "limit"), (set.largest(33), "largest")] {
            assert_eq!(wrong.check().unwrap_err().field(), field);
        }
    }
}
