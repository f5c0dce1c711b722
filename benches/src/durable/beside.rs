//! The waits of user transactions while sagas keep the same file busy.

use std::time::Duration;

use buttress::Json;
use buttress_durable::outbox::Outbox;
use buttress_durable::saga::{Config, Executor};

use super::base::sqlite;
use super::flow::{rate, two_threads};
use super::folder::Folder;
use super::sagas;
use super::users::Users;
use super::{IN_FLIGHT, WAIT_ALONE, WAIT_SAGAS};
use crate::patterns::BUTTRESS;
use crate::probes::finding;

const ALONE: Duration = Duration::from_secs(2);
const SAGAS: u64 = 6_000;

/// The measurement of the sagas themselves.
pub const SAGAS_BESIDE: &str = "sagas of five steps on SQLite, 64 in flight, beside 500 tx/s";

async fn users() {
    let folder = Folder::new();
    let store = sqlite(&folder).await;
    let outbox = Outbox::new(store.clone());
    let (alone, ()) = Users::beside(&outbox, tokio::time::sleep(ALONE)).await;
    alone.report(WAIT_ALONE, BUTTRESS);
    let (definition, last) = sagas::definition(Json);
    let executor = Executor::new(definition, store.clone(), Config::new()).expect("valid");
    let sagas = rate(SAGAS, IN_FLIGHT, sagas::run(BUTTRESS, executor.clone(), last));
    let (beside, each) = Users::beside(&outbox, sagas).await;
    beside.report(WAIT_SAGAS, BUTTRESS);
    finding(SAGAS_BESIDE, BUTTRESS, each, &format!("{each:.0}/s"));
    executor.shut_down().await.expect("nothing is under way");
    store.close().await;
}

pub fn run() {
    two_threads().block_on(users());
}
