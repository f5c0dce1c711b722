//! [`writes_requests`]: clients that write into each request, and leave the call to the inner service.

/// Makes `$Layer` a layer and `$Service`, with the fields `inner` and `layer`, its service. The method `write_into` of
/// the layer changes a request.
macro_rules! writes_requests {
    ($Layer:ident, $Service:ident) => {
        $crate::layered::layered!($Layer => $Service, |layer, inner| $Service {
            inner,
            layer: layer.clone()
        });

        impl<S, B> tower::Service<http::Request<B>> for $Service<S>
        where
            S: tower::Service<http::Request<B>>,
        {
            type Response = S::Response;
            type Error = S::Error;
            type Future = S::Future;

            fn poll_ready(
                &mut self,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Result<(), Self::Error>> {
                self.inner.poll_ready(cx)
            }

            fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
                self.layer.write_into(&mut request);
                self.inner.call(request)
            }
        }
    };
}

pub(crate) use writes_requests;
