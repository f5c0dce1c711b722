//! Layers with `.grpc()` around real clients and servers of tonic, over a pipe in memory. The clock is paused, so every
//! time is exact.

mod answers;
mod client;
mod deadlines;
mod retries;
mod router;
mod server;
mod streams;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::Clock;
use hyper_util::rt::TokioIo;
use tonic::body::Body;
use tonic::codegen::BoxStream;
use tonic::codegen::tokio_stream::{self, StreamExt as _};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tower::{Layer, Service};

pub(super) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A service that answers by the name in the request, and records the `grpc-timeout` of every request.
#[derive(Clone, Default)]
struct Shop {
    timeouts: Arc<Mutex<Vec<String>>>,
}

impl Shop {
    fn record<T>(&self, request: &Request<T>) -> usize {
        let timeout = request.metadata().get("grpc-timeout");
        let mut timeouts = self.timeouts.lock().unwrap();
        timeouts.push(timeout.map_or("-", |value| value.to_str().unwrap()).to_owned());
        timeouts.len()
    }

    /// The `grpc-timeout` of each request.
    fn timeouts(&self) -> Vec<String> {
        self.timeouts.lock().unwrap().clone()
    }

    fn requests(&self) -> usize {
        self.timeouts.lock().unwrap().len()
    }
}

/// `14` or `8 pushback 70`.
fn failure(text: &str) -> Status {
    let mut words = text.split(" pushback ");
    let code: i32 = words.next().unwrap().parse().unwrap();
    let mut status = Status::new(code.into(), "failed");
    if let Some(pushback) = words.next() {
        status.metadata_mut().insert("grpc-retry-pushback-ms", pushback.parse().unwrap());
    }
    status
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Health for Shop {
    /// `ok` answers, `stuck` does not, `first: <failure>` fails once, `<failure>` fails always. `slow: ` before it takes
    /// 100 ms.
    async fn check(&self, request: Request<HealthCheckRequest>) -> Answer<HealthCheckResponse> {
        let number = self.record(&request);
        let mut asked = request.get_ref().service.as_str();
        if let Some(rest) = asked.strip_prefix("slow: ") {
            Clock::default().sleep(ms(100)).await;
            asked = rest;
        }
        match asked.strip_prefix("first: ") {
            Some(text) if number == 1 => return Err(failure(text)),
            Some(_) => asked = "ok",
            None => {}
        }
        match asked {
            "stuck" => std::future::pending().await,
            "ok" => Ok(Response::new(HealthCheckResponse { status: 1 })),
            text => Err(failure(text)),
        }
    }

    type WatchStream = BoxStream<HealthCheckResponse>;

    /// A message, and then the failure of the request, or the end for `ok`, or nothing for `silent`.
    async fn watch(&self, request: Request<HealthCheckRequest>) -> Answer<Self::WatchStream> {
        self.record(&request);
        let mut items = vec![Ok(HealthCheckResponse { status: 1 })];
        if request.get_ref().service == "silent" {
            let silent = tokio_stream::iter(items).chain(tokio_stream::pending());
            return Ok(Response::new(Box::pin(silent)));
        }
        if request.get_ref().service != "ok" {
            items.push(Err(failure(&request.get_ref().service)));
        }
        Ok(Response::new(Box::pin(tokio_stream::iter(items))))
    }
}

fn ask(service: &str) -> Request<HealthCheckRequest> {
    Request::new(HealthCheckRequest { service: service.to_owned() })
}

/// A request that a retry may repeat.
fn repeatable(service: &str) -> Request<HealthCheckRequest> {
    let mut request = ask(service);
    request.extensions_mut().insert(crate::Repeatable);
    request
}

/// Starts a server with `layer` around its service, and returns a channel to it.
async fn serve<L>(shop: Shop, layer: L) -> Channel
where
    L: Layer<tonic::service::Routes> + Clone + Send + 'static,
    L::Service: Service<
            http::Request<Body>,
            Response = http::Response<Body>,
            Error = std::convert::Infallible,
            Future: Send,
        > + Clone
        + Send
        + 'static,
{
    let (here, there) = tokio::io::duplex(64 * 1024);
    let incoming = tokio_stream::once(Ok::<_, std::io::Error>(there));
    let server = Server::builder().layer(layer).add_service(HealthServer::new(shop));
    tokio::spawn(server.serve_with_incoming(incoming));
    let mut here = Some(TokioIo::new(here));
    let connector = tower::service_fn(move |_: http::Uri| {
        let pipe = here.take().ok_or_else(|| std::io::Error::other("connected twice"));
        std::future::ready(pipe)
    });
    Endpoint::from_static("http://shop.test").connect_with_connector(connector).await.unwrap()
}

async fn plain(shop: &Shop) -> Channel {
    serve(shop.clone(), tower::layer::util::Identity::new()).await
}
