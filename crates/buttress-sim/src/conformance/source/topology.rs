//! Cases for the declaration of a group: where it begins, again, and with other settings.

use std::future::Future;
use std::time::{Duration, SystemTime};

use buttress_durable::consume::{Consumer, Start};
use buttress_durable::outbox::NewMessage;
use tower::{BoxError, service_fn};

use super::super::cases;
use super::Transport;
use super::group::{Group, message};

/// A transport whose groups are declared with settings.
pub trait Topology: Transport {
    /// Returns `true` if a new group can begin there. Default: `true` for every start.
    fn can_begin(&self, start: Start) -> bool {
        let _every = start;
        true
    }

    /// Adds a consumer to `group`. A new group begins at `start`. A group that exists keeps its place.
    fn subscribe_at(&self, group: &str, start: Start) -> impl Future<Output = Self::Source>;

    /// Subscribes to the existing `group`, or declares its topic, with one setting that differs. Returns the answer
    /// and the name of the setting, which the error has to contain.
    fn subscribe_otherwise(
        &self,
        group: &str,
    ) -> impl Future<Output = (Result<Self::Source, BoxError>, &'static str)>;
}

/// Runs every case.
pub async fn all<T: Topology>(transport: &T) {
    cases!(transport:
        case_2_12_a_new_group_begins_where_it_is_told,
        case_2_12_a_group_that_is_declared_again_keeps_its_place,
        case_2_12_another_setting_is_an_error_that_names_it,
    );
}

/// The time between two messages that a start at a time can distinguish.
const APART: Duration = Duration::from_millis(50);

async fn publish<T: Topology>(transport: &T, payload: &str) {
    let sent: NewMessage = message("a", payload);
    if let Err(error) = transport.publish(sent).await {
        panic!("publishing: {error}");
    }
}

/// Runs a consumer of `group` over `source` until its handler has seen `wanted`, and then a little longer.
async fn sees<T: Topology>(transport: &T, group: &str, source: T::Source, wanted: &[&str]) {
    let seen = Group::new(group, transport.clock());
    let seeing = seen.clone();
    let handler = service_fn(move |delivery| {
        seeing.saw(&delivery);
        async { Ok::<(), BoxError>(()) }
    });
    let source = seen.counting(source);
    let consumer = match Consumer::new(source, handler, seen.config()) {
        Ok(consumer) => consumer.dead_letters(seen.letters.clone()).spawn(),
        Err(error) => panic!("a case's configuration: {error}"),
    };
    seen.until(&format!("{group} sees {wanted:?}"), || seen.seen().len() >= wanted.len()).await;
    transport.clock().sleep(APART).await;
    assert_eq!(seen.payloads(), wanted, "{group}");
    consumer.shut_down().await;
}

async fn case_2_12_a_new_group_begins_where_it_is_told<T: Topology>(transport: &T) {
    let clock = transport.clock();
    for (group, wanted) in [("first", &["1", "2", "3"][..]), ("at", &["2", "3"]), ("last", &["3"])]
    {
        transport.fresh().await;
        publish(transport, "1").await;
        clock.sleep(APART).await;
        let between = SystemTime::UNIX_EPOCH + clock.unix();
        clock.sleep(APART).await;
        publish(transport, "2").await;
        let start = match group {
            "first" => Start::First,
            "at" => Start::At(between),
            _ => Start::New,
        };
        if transport.can_begin(start) {
            let source = transport.subscribe_at(group, start).await;
            publish(transport, "3").await;
            sees(transport, group, source, wanted).await;
        }
    }
}

async fn case_2_12_a_group_that_is_declared_again_keeps_its_place<T: Topology>(transport: &T) {
    transport.fresh().await;
    let first = transport.subscribe_at("billing", Start::New).await;
    publish(transport, "1").await;
    publish(transport, "2").await;
    sees(transport, "billing", first, &["1", "2"]).await;
    publish(transport, "3").await;
    let again = transport.subscribe_at("billing", Start::New).await;
    sees(transport, "billing", again, &["3"]).await;
}

async fn case_2_12_another_setting_is_an_error_that_names_it<T: Topology>(transport: &T) {
    transport.fresh().await;
    let _group = transport.subscribe_at("billing", Start::New).await;
    let (answer, setting) = transport.subscribe_otherwise("billing").await;
    match answer {
        Ok(_) => panic!("two settings of {setting}, and no error"),
        Err(error) => assert!(error.to_string().contains(setting), "{setting}: {error}"),
    }
}
