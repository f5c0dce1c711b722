//! [`answers_at_once`]: services that never fail and never wait.

/// Makes a type a service. Its method `answer_to` returns the response to the head of a request.
macro_rules! answers_at_once {
    ($Service:ty) => {
        impl<B> tower::Service<http::Request<B>> for $Service {
            type Response = http::Response<String>;
            type Error = std::convert::Infallible;
            type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

            fn poll_ready(
                &mut self,
                _: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Result<(), Self::Error>> {
                std::task::Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: http::Request<B>) -> Self::Future {
                let (head, _) = request.into_parts();
                std::future::ready(Ok(self.answer_to(&head)))
            }
        }
    };
}

pub(crate) use answers_at_once;
