//! The consumer of the messages. It keeps a ledger per customer, counts each message once, and
//! records every violation of the order.

use std::net::SocketAddr;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use buttress::Rng;
use buttress_durable::outbox::{CountedInbox, Inbox as _, MessageId, Receipt};
use tower::BoxError;

use crate::database::Database;
use crate::http::{MESSAGE_ID, serve};
use crate::order::{CUSTOMERS, News};
use crate::trouble::Trouble;

/// The name under which its inbox records messages.
const NAME: &str = "ledger";

pub(crate) async fn create_tables<D: Database>(database: &D) -> Result<(), BoxError> {
    let ledger = "CREATE TABLE ledger (customer BIGINT PRIMARY KEY, deliveries BIGINT NOT NULL, \
                  received BIGINT NOT NULL, last BIGINT NOT NULL, violations BIGINT NOT NULL)";
    database.ask(ledger, &[]).await?;
    for customer in 1..=CUSTOMERS {
        database.ask("INSERT INTO ledger VALUES ($1, 0, 0, 0, 0)", &[customer]).await?;
    }
    Ok(())
}

#[derive(Clone)]
struct Consumer<D> {
    inbox: CountedInbox<D>,
    rng: Rng,
}

pub(crate) async fn start<D: Database>(
    inbox: CountedInbox<D>,
    rng: &Rng,
) -> Result<SocketAddr, BoxError> {
    let consumer = Consumer { inbox, rng: rng.clone() };
    let router = Router::new().route("/ledger", post(receive::<D>)).with_state(consumer);
    Ok(serve(router).await?)
}

async fn receive<D: Database>(
    State(consumer): State<Consumer<D>>,
    headers: HeaderMap,
    Json(news): Json<News>,
) -> Result<(), (StatusCode, String)> {
    let trouble = Trouble::draw(&consumer.rng);
    let broken = |error: BoxError| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    if trouble == Trouble::Failure {
        return Err(broken("out of order".into()));
    }
    let id = headers.get(MESSAGE_ID).and_then(|id| id.to_str().ok()?.parse().ok());
    let Some(id) = id else { return Err((StatusCode::BAD_REQUEST, "no message id".to_owned())) };
    trouble.before().await;
    note(&consumer.inbox, id, &news).await.map_err(broken)?;
    trouble.after().await;
    Ok(())
}

/// Records the message and, if it is new, the entry in one transaction.
async fn note<D: Database>(
    inbox: &CountedInbox<D>,
    id: MessageId,
    news: &News,
) -> Result<(), BoxError> {
    let mut tx = inbox.inner().begin().await?;
    let first = inbox.receive(&mut tx, NAME, id).await? == Receipt::First;
    let delivered = "UPDATE ledger SET deliveries = deliveries + 1 WHERE customer = $1";
    D::query(&mut tx, delivered, &[news.customer]).await?;
    if first {
        let entry = "UPDATE ledger SET received = received + 1, last = $2, \
                         violations = violations + CASE WHEN last + 1 = $2 THEN 0 ELSE 1 END \
                     WHERE customer = $1";
        D::query(&mut tx, entry, &[news.customer, news.number]).await?;
    }
    D::commit(tx).await?;
    Ok(())
}
