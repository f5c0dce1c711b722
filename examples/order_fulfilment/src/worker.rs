//! The worker: runs the sagas and the relay in a separate process, which is killed repeatedly. All
//! its state is in the database, so the next worker resumes its work.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use buttress::retry::{self, Backoff, RetryLayer};
use buttress::time_limit::{self, TimeLimitLayer};
use buttress::{InvalidConfig, Outcome, classify_fn};
use buttress_durable::outbox::{self, HeadOfKey, Message, Outbox, Relay, RelayHandle};
use buttress_durable::saga::{self, Call, Definition, Executor, Kind, SagaError, SagaId};
use tower::{BoxError, Service, ServiceBuilder, service_fn};

use crate::database::Database;
use crate::http::{CallError, Client, client, post as send, serve};
use crate::order::{Ask, Order, Receipt};
use crate::services::Addresses;

/// The time after which the work of a killed worker can be resumed. It is too short for production,
/// where no worker is killed every second.
pub(crate) const LEASE: Duration = Duration::from_secs(1);
/// The time limit of calls to the services.
const PATIENCE: Duration = Duration::from_millis(400);

pub(crate) type Orders<D> = Executor<Order, buttress::Json, D>;

/// What runs in a worker.
pub(crate) struct Parts<D: Database> {
    pub orders: Orders<D>,
    pub relay: RelayHandle,
}

/// Works until `stop` completes, and then finishes the work in progress. Calls `ready` with the
/// address at which it accepts orders, and with its parts.
pub(crate) async fn work<D: Database>(
    database: D,
    services: &Addresses,
    lease: Duration,
    ready: impl FnOnce(SocketAddr, Parts<D>),
    stop: impl Future<Output = ()>,
) -> Result<(), BoxError> {
    let config = saga::Config::new()
        .name("orders")
        .lease(lease)
        .undo_retry(10, Backoff::exponential(Duration::from_millis(50)))
        .run_again(20, Backoff::exponential(Duration::from_millis(50)));
    let orders = Executor::new(definition(services)?, database.clone(), config)?;
    // The work of the previous worker is free once its lease has expired.
    orders.keep_recovering(Duration::from_millis(250));

    let relaying = outbox::Config::new()
        .name("news")
        .lease(lease)
        .idle_poll(Duration::from_millis(100))
        .publish_timeout(PATIENCE)
        .retry(20, Backoff::exponential(Duration::from_millis(50)))
        // A crash of this process is not a reason to isolate a message.
        .max_starts(100)
        // Later messages must not overtake a dead message.
        .head_of_key(HeadOfKey::Block);
    let relay = Relay::new(&Outbox::new(database), publisher(services.ledger), relaying)?.spawn();

    let intake = Router::new().route("/orders", post(take::<D>)).with_state(orders.clone());
    ready(serve(intake).await?, Parts { orders: orders.clone(), relay: relay.clone() });
    stop.await;
    relay.shut_down().await;
    orders.shut_down().await?;
    Ok(())
}

/// Creates the order, reserves the stock, charges the card, and confirms the order. The first three
/// steps can be undone. A confirmed order is final.
fn definition(
    services: &Addresses,
) -> Result<Definition<Order, buttress::Json>, Box<dyn std::error::Error + Send + Sync>> {
    let client = client();
    let orders = || participant(&client, services.orders);
    let stock = || participant(&client, services.stock);
    let payment = || participant(&client, services.payment);
    // An immediate second attempt succeeds after most failures. Otherwise the step is in doubt.
    let layers = || {
        let retry = retry::Config::new().attempts(2).backoff(Backoff::fixed(PATIENCE / 8));
        let worth_it = classify_fn(|result: &Result<Option<Receipt>, CallError>| match result {
            Ok(_) => Outcome::Success,
            Err(error) if error.is_refusal() => Outcome::Ignored,
            Err(_) => Outcome::Failure,
        });
        Ok::<_, InvalidConfig>(
            ServiceBuilder::new()
                .layer(RetryLayer::new(retry)?.classify(worth_it))
                .layer(TimeLimitLayer::new(time_limit::Config::new(PATIENCE))?),
        )
    };
    let ask = |order: &Order| Ask { order: order.clone(), receipt: None };

    let mut saga = Definition::builder("order", 1).codec(buttress::Json);
    saga.step("create")
        .action(layers()?, orders(), move |order: &Order, ()| ask(order))
        .definite(CallError::is_refusal)
        .undo(layers()?, orders(), move |order: &Order, (), _| ask(order))
        .add();
    saga.step("reserve")
        .action(layers()?, stock(), move |order: &Order, ()| ask(order))
        .definite(CallError::is_refusal)
        .undo(layers()?, stock(), move |order: &Order, (), _| ask(order))
        .add();
    let charge = saga
        .step("charge")
        .action(layers()?, payment(), move |order: &Order, ()| ask(order))
        .definite(CallError::is_refusal)
        .undo(layers()?, payment(), move |order: &Order, (), _| ask(order))
        .add();
    saga.step("confirm")
        .kind(Kind::Pivot)
        .needs(charge)
        .action(layers()?, orders(), |order: &Order, receipt| Ask {
            order: order.clone(),
            receipt: Option::clone(&receipt),
        })
        .definite(CallError::is_refusal)
        .add();
    Ok(saga.build()?)
}

/// Makes the service of a step. It posts the request to a path with the key of the step, by which
/// the service recognizes a repetition.
fn participant(
    client: &Client,
    address: SocketAddr,
) -> impl Service<Call<Ask>, Response = Option<Receipt>, Error = CallError, Future: Send + 'static>
+ Clone
+ Send
+ 'static {
    let client = client.clone();
    service_fn(move |call: Call<Ask>| {
        let client = client.clone();
        async move {
            let uri = format!("http://{address}/{}", call.key());
            let body = json(call.request())?;
            let answer = send(&client, uri, body, None).await?;
            serde_json::from_slice(&answer).map_err(|error| CallError::NoAnswer(error.into()))
        }
    })
}

/// The publisher of the relay.
fn publisher(
    ledger: SocketAddr,
) -> impl Service<Message, Response = (), Error = BoxError, Future: Send + 'static>
+ Clone
+ Send
+ 'static {
    let client = client();
    service_fn(move |message: Message| {
        let client = client.clone();
        async move {
            let uri = format!("http://{ledger}/{}", message.topic);
            send(&client, uri, message.payload, Some(message.id.to_string())).await?;
            Ok(())
        }
    })
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, CallError> {
    serde_json::to_vec(value).map_err(|error| CallError::NoAnswer(error.into()))
}

/// Accepts an order once its saga is durable. A client without an answer sends the order again.
async fn take<D: Database>(
    State(orders): State<Orders<D>>,
    Json(order): Json<Order>,
) -> (StatusCode, String) {
    let id = SagaId::new(order.number.unsigned_abs().into());
    match orders.start_as(id, order).await {
        // The saga runs, whether or not a caller waits for its end.
        Ok(execution) => {
            drop(execution);
            (StatusCode::ACCEPTED, id.to_string())
        }
        Err(SagaError::AlreadyStarted { .. }) => (StatusCode::OK, "accepted before".to_owned()),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    }
}
