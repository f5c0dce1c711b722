//! Streams and consumers that are deleted or replaced while a member works, and messages that another program wrote.

use std::io::{Read as _, Write as _};

use buttress::{Clock, StoreError};
use buttress_durable::consume::{Answer, Batch, Settle, Shard, Source as _};
use buttress_nats::async_nats::jetstream;
use buttress_nats::{Publish, Storage, Subscription, Token, Topic};

use crate::faults::{SECOND, at, message, publish, settings};
use crate::received::take;
use crate::server::{self, Fresh, Server};

/// Receives until `ends` returns a value.
async fn receive_until<T>(
    source: &Subscription,
    mut ends: impl FnMut(Result<Batch<Token>, StoreError>) -> Option<T>,
) -> T {
    let clock = Clock::default();
    let deadline = clock.now() + 60 * SECOND;
    loop {
        let received = tokio::select! {
            received = source.receive() => received,
            () = clock.sleep_until(deadline) => panic!("not within a minute"),
        };
        if let Some(ended) = ends(received) {
            return ended;
        }
    }
}

/// Receives until an error says that an operator must create a stream.
async fn names_missing(source: &Subscription, stream: &str) {
    let expected = format!("no stream `{stream}`");
    let is_named =
        |error: &StoreError| error.is_misconfigured() && error.to_string().contains(&expected);
    receive_until(source, |received| received.err().filter(is_named)).await;
}

/// Returns the topic of a test, and a member that holds its one message.
async fn held_by_a_member(test: &str) -> Option<(Fresh, Subscription)> {
    let fresh = Fresh::of(test, 1).await?;
    let source = fresh.member(settings()).await;
    source.want(10);
    publish(&fresh.publisher().await, message("a", "1")).await;
    take(&source, 1).await;
    Some((fresh, source))
}

#[tokio::test]
async fn a_deleted_stream_is_an_error_that_names_it() {
    let Some((fresh, source)) = held_by_a_member("a deleted stream").await else { return };
    jetstream::new(fresh.nats.client()).delete_stream(&fresh.name).await.unwrap();
    names_missing(&source, &fresh.name).await;
    fresh.remove().await;
}

#[tokio::test]
async fn a_deleted_table_of_the_members_is_an_error_that_names_it() {
    let Some((fresh, source)) = held_by_a_member("a deleted table").await else { return };
    let table = format!("{}-groups", fresh.name);
    jetstream::new(fresh.nats.client()).delete_stream(&table).await.unwrap();
    names_missing(&source, &table).await;
    fresh.remove().await;
}

#[tokio::test]
async fn a_deleted_consumer_is_an_error_that_names_it() {
    let Some((fresh, source)) = held_by_a_member("a deleted consumer").await else { return };
    source.want(10);
    fresh.stream().await.delete_consumer("billing-0").await.unwrap();
    let misconfigured = |error: &StoreError| error.is_misconfigured();
    let error = receive_until(&source, |received| received.err().filter(misconfigured)).await;
    assert!(error.to_string().contains("consumer"), "{error}");
    fresh.remove().await;
}

#[tokio::test]
async fn an_acknowledgement_never_counts_for_a_message_of_a_new_stream() {
    let Some(fresh) = Fresh::of("a new stream", 1).await else { return };
    let source = fresh.member(settings().ack_wait(600 * SECOND)).await;
    source.want(10);
    publish(&fresh.publisher().await, message("a", "old")).await;
    let old = take(&source, 1).await;
    jetstream::new(fresh.nats.client()).delete_stream(&fresh.name).await.unwrap();
    // An operator deploys again: the stream and its consumers are created again, and their places begin at 1.
    let publisher = fresh.publisher().await;
    drop(fresh.member(settings().ack_wait(600 * SECOND)).await);
    publish(&publisher, message("a", "new")).await;
    let mut revoked = Vec::new();
    let new = receive_until(&source, |received| {
        let batch = received.ok()?;
        revoked.extend(batch.revoked);
        batch.messages.into_iter().next()
    })
    .await;
    assert_eq!((&*new.payload, revoked), (b"new".as_slice(), vec![Shard(0)]));
    let late = source.settle(&[(old[0].token.clone(), Settle::Done)]).await.unwrap();
    assert_eq!((late, fresh.unsettled().await), (vec![Answer::Late], 1));
    let done = source.settle(&[(new.token.clone(), Settle::Done)]).await.unwrap();
    assert_eq!((done, fresh.unsettled().await), (vec![Answer::Taken], 0));
    fresh.remove().await;
}

#[tokio::test]
async fn a_stream_in_memory_that_a_restart_has_lost_is_an_error_that_names_it() {
    let Some(mut own) = Server::start("a stream in memory").await else { return };
    let nats = at(own.address()).await;
    let topic = Topic::new("orders").shards(1).storage(Storage::Memory);
    let source = nats.subscribe(&topic, settings()).await.unwrap();
    source.want(10);
    let publisher = nats.publisher(&topic, Publish::new()).await.unwrap();
    for payload in ["1", "2", "3"] {
        publish(&publisher, message("a", payload)).await;
    }
    let old = take(&source, 3).await;
    own.kill();
    own.restart().await;
    names_missing(&source, "orders").await;
    let publisher = nats.publisher(&topic, Publish::new()).await.unwrap();
    drop(nats.subscribe(&topic, settings()).await.unwrap());
    publish(&publisher, message("a", "new")).await;
    let new = take(&source, 1).await;
    assert_eq!(new[0].payload, b"new");
    let done = [(old[0].token.clone(), Settle::Done), (new[0].token.clone(), Settle::Done)];
    assert_eq!(source.settle(&done).await.unwrap(), [Answer::Late, Answer::Taken]);
}

/// Publishes with headers that the client would not write.
fn publish_raw(subject: &str, headers: &[u8], payload: &[u8]) {
    let mut socket = std::net::TcpStream::connect(server::address()).unwrap();
    let (size, all) = (headers.len(), headers.len() + payload.len());
    write!(
        socket,
        "CONNECT {{\"headers\":true,\"verbose\":false}}\r\nHPUB {subject} {size} {all}\r\n"
    )
    .unwrap();
    socket.write_all(&[headers, payload, b"\r\nPING\r\n"].concat()).unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while !answer.windows(4).any(|bytes| bytes == b"PONG") {
        let length = socket.read(&mut buffer).unwrap();
        assert!(length > 0, "{}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&buffer[..length]);
    }
}

#[tokio::test]
async fn a_message_with_a_status_line_is_a_message() {
    let Some(fresh) = Fresh::of("a status line", 1).await else { return };
    let publisher = fresh.publisher().await;
    let source = fresh.member(settings()).await;
    let lines = [
        "100 Idle Heartbeat",
        "404 No Messages",
        "408 Request Timeout",
        "409 Consumer Deleted",
        "503",
    ];
    for line in lines {
        let headers = format!("NATS/1.0 {line}\r\nce-type: odd\r\n\r\n");
        publish_raw(&format!("{}.0", fresh.name), headers.as_bytes(), line.as_bytes());
    }
    publish(&publisher, message("a", "last")).await;
    source.want(10);
    let mut payloads = Vec::new();
    receive_until(&source, |received| {
        for message in received.unwrap().messages {
            payloads.push(String::from_utf8_lossy(&message.payload).into_owned());
        }
        (payloads.len() == 6).then_some(())
    })
    .await;
    assert_eq!(payloads[..5], lines);
    fresh.remove().await;
}

#[tokio::test]
async fn a_consumer_that_is_deleted_and_created_again_loses_no_message() {
    let Some(fresh) = Fresh::of("a consumer that is created again", 1).await else { return };
    let lasting = || settings().ack_wait(600 * SECOND);
    let publisher = fresh.publisher().await;
    let source = fresh.member(lasting()).await;
    source.want(2);
    for payload in ["1", "2", "3"] {
        publish(&publisher, message("a", payload)).await;
    }
    let held = take(&source, 2).await;
    fresh.stream().await.delete_consumer("billing-0").await.unwrap();
    let done: Vec<_> = held.iter().map(|held| (held.token.clone(), Settle::Done)).collect();
    let error = source.settle(&done[..1]).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    source.want(10);
    receive_until(&source, |received| received.err().filter(StoreError::is_misconfigured)).await;
    drop(fresh.member(lasting()).await);
    // The consumer begins again with the first message. The member still holds the first two.
    let third = take(&source, 1).await;
    assert_eq!(third[0].payload, b"3");
    assert_eq!(fresh.unsettled().await, 3);
    source.settle(&done).await.unwrap();
    source.settle(&[(third[0].token.clone(), Settle::Done)]).await.unwrap();
    assert_eq!(fresh.unsettled().await, 0);
    fresh.remove().await;
}
