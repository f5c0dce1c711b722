//! `publisher!`: the frame of the publisher of a broker.

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
