//! [`layered`]: the layer of a service.

/// Makes `$Layer` the layer of `$Service`. The expression makes the service from the layer and the
/// inner service.
macro_rules! layered {
    ($Layer:ident => $Service:ident, |$layer:ident, $inner:ident| $made:expr) => {
        impl<S> tower::Layer<S> for $Layer {
            type Service = $Service<S>;

            fn layer(&self, $inner: S) -> Self::Service {
                let $layer = self;
                $made
            }
        }
    };
}

pub(crate) use layered;
