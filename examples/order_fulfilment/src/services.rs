//! The three services of a saga. They live as long as the demonstration. Each executes a request
//! once, even if it arrives twice or late.

pub(crate) mod orders;
mod payment;
mod stock;

use std::net::SocketAddr;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use buttress::Rng;
use buttress_durable::outbox::Outbox;
use buttress_durable::saga::{Barrier as _, CountedBarrier, Passage, SagaId};
use serde::{Deserialize, Serialize};
use tower::BoxError;

use crate::database::Database;
use crate::http::serve;
use crate::order::{Ask, Receipt};
use crate::trouble::Trouble;

/// The addresses of the services.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Addresses {
    pub orders: SocketAddr,
    pub stock: SocketAddr,
    pub payment: SocketAddr,
    pub ledger: SocketAddr,
}

/// The state of a service.
#[derive(Clone)]
struct Site<D> {
    barrier: CountedBarrier<D>,
    outbox: Outbox<D>,
    rng: Rng,
}

/// Starts the services, each on its own port. They share only a database.
pub(crate) async fn start<D: Database>(
    barrier: &CountedBarrier<D>,
    ledger: SocketAddr,
    rng: &Rng,
) -> Result<Addresses, BoxError> {
    let site = || {
        let outbox = Outbox::new(barrier.inner().clone());
        let site = Site { barrier: barrier.clone(), outbox, rng: rng.clone() };
        // The path is the key of the step, as text.
        Router::new().route("/{saga}/{step}/{direction}", post(answer::<D>)).with_state(site)
    };
    Ok(Addresses {
        orders: serve(site()).await?,
        stock: serve(site()).await?,
        payment: serve(site()).await?,
        ledger,
    })
}

pub(crate) async fn create_tables<D: Database>(database: &D) -> Result<(), BoxError> {
    orders::create_tables(database).await?;
    stock::create_tables(database).await?;
    payment::create_tables(database).await
}

/// Why a service did not execute a request.
enum Refusal {
    /// The service refuses: status 409. The step has failed, and needs no undo.
    Definite(&'static str),
    /// The service failed: status 500. The effect is in doubt.
    Broken(BoxError),
}

impl<E: Into<BoxError>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Broken(error.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Definite(why) => (StatusCode::CONFLICT, why).into_response(),
            Self::Broken(error) => {
                (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
            }
        }
    }
}

async fn answer<D: Database>(
    State(site): State<Site<D>>,
    Path((saga, step, direction)): Path<(String, String, String)>,
    Json(ask): Json<Ask>,
) -> Result<Json<Option<Receipt>>, Refusal> {
    let trouble = Trouble::draw(&site.rng);
    if trouble == Trouble::Failure {
        return Err(Refusal::Broken("out of order".into()));
    }
    let saga = saga.parse()?;
    // On a separate task: the work continues after the caller disconnects, and so it can complete
    // late.
    let work = tokio::spawn(async move {
        trouble.before().await;
        match direction.as_str() {
            "action" => act(&site, saga, &step, &ask).await,
            _ => undo(&site, saga, &step, &ask).await.map(|()| None),
        }
    });
    let done = work.await?;
    trouble.after().await;
    done.map(Json)
}

/// Runs the action of a step once, in one transaction with its record of the barrier.
async fn act<D: Database>(
    site: &Site<D>,
    saga: SagaId,
    step: &str,
    ask: &Ask,
) -> Result<Option<Receipt>, Refusal> {
    let mut tx = site.barrier.inner().begin().await?;
    match site.barrier.action(&mut tx, saga, step).await? {
        // An error drops the transaction, and the record with it.
        Passage::Proceed => match step {
            "create" => orders::create(site, &mut tx, &ask.order).await?,
            "reserve" => stock::reserve::<D>(&mut tx, &ask.order).await?,
            "charge" => payment::charge::<D>(&mut tx, &ask.order).await?,
            "confirm" => orders::confirm(site, &mut tx, ask).await?,
            _ => return Err(Refusal::Definite("the step is unknown")),
        },
        Passage::Repeated => {}
        Passage::Overtaken => return Err(Refusal::Definite("the step has been undone")),
    }
    D::commit(tx).await?;
    // A repeated action gets the same answer.
    Ok((step == "charge").then_some(Receipt { cents: ask.order.cents }))
}

/// Runs the undo of a step once. An undo that comes before its action rejects the action
/// permanently.
async fn undo<D: Database>(
    site: &Site<D>,
    saga: SagaId,
    step: &str,
    ask: &Ask,
) -> Result<(), Refusal> {
    let mut tx = site.barrier.inner().begin().await?;
    if site.barrier.undo(&mut tx, saga, step).await? == Passage::Proceed {
        match step {
            "create" => orders::cancel(site, &mut tx, &ask.order).await?,
            "reserve" => stock::release::<D>(&mut tx, &ask.order).await?,
            "charge" => payment::refund::<D>(&mut tx, &ask.order).await?,
            _ => return Err(Refusal::Definite("the step has no undo")),
        }
    }
    D::commit(tx).await?;
    Ok(())
}
