//! The two services behind the gateway: `orders` with two instances, and `prices` with one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// A request handler that waits for this gate holds its connection.
#[derive(Debug)]
pub(crate) struct Gate {
    open: watch::Sender<bool>,
    /// The handlers that wait.
    waiting: watch::Sender<u64>,
}

impl Gate {
    fn new() -> Self {
        Self { open: watch::Sender::new(false), waiting: watch::Sender::new(0) }
    }

    /// Waits until `count` handlers wait.
    pub(crate) async fn reached(&self, count: u64) {
        // The sender is in this value, so the wait cannot fail.
        drop(self.waiting.subscribe().wait_for(|waiting| *waiting == count).await);
    }

    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    pub(crate) fn close(&self) {
        self.open.send_replace(false);
    }

    async fn pass(&self) {
        let _waiting = Waiting::begin(&self.waiting);
        drop(self.open.subscribe().wait_for(|open| *open).await);
    }
}

/// A handler that waits. It is counted until it is dropped, also if its client leaves.
struct Waiting<'g>(&'g watch::Sender<u64>);

impl<'g> Waiting<'g> {
    fn begin(waiting: &'g watch::Sender<u64>) -> Self {
        waiting.send_modify(|waiting| *waiting += 1);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting -= 1);
    }
}

/// What the handlers of a service share.
#[derive(Debug)]
pub(crate) struct Facts {
    /// The name of the service.
    name: &'static str,
    /// All requests that reached the service.
    pub requests: AtomicU64,
    /// The requests to the flaky resource.
    flaky: AtomicU64,
    pub gate: Gate,
}

/// An instance of a service, which can stop and start again at its address.
pub(crate) struct Instance {
    pub address: SocketAddr,
    facts: Arc<Facts>,
    running: Option<Running>,
}

struct Running {
    stop: oneshot::Sender<()>,
    served: JoinHandle<std::io::Result<()>>,
}

impl Instance {
    /// Starts an instance on a free port.
    pub(crate) async fn start(facts: &Arc<Facts>) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mut instance = Self { address, facts: facts.clone(), running: None };
        instance.serve(listener);
        Ok(instance)
    }

    /// Starts the instance again, at the same address.
    pub(crate) async fn restart(&mut self) -> std::io::Result<()> {
        let listener = TcpListener::bind(self.address).await?;
        self.serve(listener);
        Ok(())
    }

    fn serve(&mut self, listener: TcpListener) {
        let (stop, stopped) = oneshot::channel();
        let router = router(self.facts.clone());
        let serve = axum::serve(listener, router).with_graceful_shutdown(async {
            // A dropped sender stops the instance too.
            drop(stopped.await);
        });
        let served = tokio::spawn(serve.into_future());
        self.running = Some(Running { stop, served });
    }

    /// Stops the instance, and waits until its last connection is closed.
    pub(crate) async fn stop(&mut self) {
        if let Some(Running { stop, served }) = self.running.take() {
            // The error of a server that has ended already is not an error here.
            let _ = stop.send(());
            drop(served.await);
        }
    }
}

/// A service: its instances, and what they share.
pub(crate) struct Service {
    pub facts: Arc<Facts>,
    pub instances: Vec<Instance>,
}

impl Service {
    /// Starts a service with so many instances.
    pub(crate) async fn named(name: &'static str, instances: usize) -> std::io::Result<Self> {
        let facts = Arc::new(Facts {
            name,
            requests: AtomicU64::new(0),
            flaky: AtomicU64::new(0),
            gate: Gate::new(),
        });
        let mut service = Self { facts, instances: Vec::new() };
        for _ in 0..instances {
            service.instances.push(Instance::start(&service.facts).await?);
        }
        Ok(service)
    }

    pub(crate) async fn stop_first(&mut self) {
        if let Some(first) = self.instances.first_mut() {
            first.stop().await;
        }
    }

    pub(crate) async fn restart_first(&mut self) -> std::io::Result<()> {
        match self.instances.first_mut() {
            Some(first) => first.restart().await,
            None => Ok(()),
        }
    }
}

/// Both services.
pub(crate) struct Services {
    pub orders: Service,
    pub prices: Service,
}

impl Services {
    pub(crate) async fn start() -> std::io::Result<Self> {
        Ok(Self {
            orders: Service::named("orders", 2).await?,
            prices: Service::named("prices", 1).await?,
        })
    }
}

fn router(facts: Arc<Facts>) -> Router {
    Router::new()
        .route("/items/{id}", get(item))
        .route("/items", post(created))
        .route("/who", get(who))
        .route("/held", get(held))
        .route("/flaky", get(flaky))
        .with_state(facts)
}

async fn item(State(facts): State<Arc<Facts>>, Path(id): Path<u64>) -> String {
    facts.requests.fetch_add(1, Ordering::Relaxed);
    format!("{{\"item\":{id}}}")
}

async fn who(State(facts): State<Arc<Facts>>) -> &'static str {
    facts.requests.fetch_add(1, Ordering::Relaxed);
    facts.name
}

async fn created(State(facts): State<Arc<Facts>>, body: String) -> (StatusCode, String) {
    facts.requests.fetch_add(1, Ordering::Relaxed);
    (StatusCode::CREATED, body)
}

async fn held(State(facts): State<Arc<Facts>>) -> &'static str {
    facts.requests.fetch_add(1, Ordering::Relaxed);
    facts.gate.pass().await;
    "released"
}

/// Fails at every tenth request, beginning with the first one.
async fn flaky(State(facts): State<Arc<Facts>>) -> Result<&'static str, StatusCode> {
    facts.requests.fetch_add(1, Ordering::Relaxed);
    let before = facts.flaky.fetch_add(1, Ordering::Relaxed);
    if before % 10 == 0 { Err(StatusCode::SERVICE_UNAVAILABLE) } else { Ok("done") }
}
