//! [`Carried`]: a request that takes its context through a channel.

use std::task::{Context as Waking, Poll};

use tower::{Layer, Service};

use super::{Context, Scoped};

/// A request together with the context it was made in.
///
/// A channel between two tasks, such as tower's `Buffer`, loses the context of the sender: the receiver's task calls
/// the service. [`Carried::capture`] before the channel and [`CarriedLayer`] behind it keep the context.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower::BoxError> {
/// use buttress::context::{Carried, CarriedLayer, Context};
/// use tower::{BoxError, Layer, ServiceExt};
///
/// let inner = tower::service_fn(async |_: u32| {
///     Ok::<_, BoxError>(Context::peek(|context| context.correlation().map(ToString::to_string)))
/// });
/// let orders = CarriedLayer.layer(inner);
///
/// let context = Context::new().with_correlation("order-7".parse()?);
/// // With a `Buffer`: `ServiceBuilder::new().map_request(Carried::capture).buffer(8).layer(CarriedLayer)`.
/// let sent = context.sync_scope(|| Carried::capture(1));
/// let seen = tokio::spawn(orders.oneshot(sent)).await??;
/// assert_eq!(seen.as_deref(), Some("order-7"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Carried<R> {
    /// The context of the sender.
    pub context: Context,
    /// The request.
    pub request: R,
}

impl<R> Carried<R> {
    /// Puts the current context beside `request`.
    #[must_use]
    pub fn capture(request: R) -> Self {
        Self { context: Context::current(), request }
    }
}

/// A layer that makes a service of `R` a service of [`Carried<R>`]. It calls each request in the
/// context that the request carries.
#[derive(Clone, Copy, Default, Debug)]
pub struct CarriedLayer;

impl<S> Layer<S> for CarriedLayer {
    type Service = CarriedService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CarriedService { inner }
    }
}

/// A service that calls each request in the context it carries. Made by [`CarriedLayer`].
#[derive(Clone, Debug)]
pub struct CarriedService<S> {
    inner: S,
}

impl<S, R> Service<Carried<R>> for CarriedService<S>
where
    S: Service<R>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Scoped<S::Future>;

    fn poll_ready(&mut self, cx: &mut Waking<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, Carried { context, request }: Carried<R>) -> Self::Future {
        context.run(&mut self.inner, request)
    }
}
