//! Partitions that move: the grace, members that lose their partitions, long handlers, pauses.

use std::time::Duration;

use buttress::Clock;
use buttress_durable::consume::{Answer, Batch, Settle, Source as _};
use buttress_kafka::{Subscription, Token};

use crate::cluster::{Cluster, SECOND};
use crate::handled::{Handled, publish, receive, until};

const MS: Duration = Duration::from_millis(1);

/// Two members, the first of which holds a message of every partition when the second one joins.
async fn first_holds_all(
    cluster: &Cluster,
    grace: Duration,
) -> (Subscription, Subscription, Batch<Token>) {
    let topic = cluster.topic("rebalance", 2);
    let settings = cluster.group(&topic).grace(grace);
    let publisher = cluster.publisher(&topic).await;
    let first = cluster.kafka.subscribe(&topic, settings.clone()).await.unwrap();
    // Keys of both partitions.
    for number in 0..20 {
        publish(&publisher, &format!("key-{number}"), "0").await;
    }
    first.want(40);
    let held = receive(&first, |all| all.messages.len() == 20).await;
    let second = cluster.kafka.subscribe(&topic, settings).await.unwrap();
    second.want(20);
    (first, second, held)
}

/// Not on the mock cluster: it excludes the second member again if the first one is faster to answer its assignment, and
/// refuses the positions of the first one meanwhile. A broker does neither.
#[tokio::test]
async fn a_partition_is_handed_over_when_its_messages_are_handled() {
    let Some(cluster) = Cluster::broker("a partition that is handed over") else { return };
    let (first, second, held) = first_holds_all(&cluster, 30 * SECOND).await;
    let mut joining = std::pin::pin!(second.receive());
    let clock = Clock::default();
    tokio::select! {
        early = &mut joining => panic!("{early:?}"),
        revoked = first.receive() => panic!("{revoked:?}"),
        // Long enough for the rebalance.
        () = clock.sleep(6 * SECOND) => {}
    }
    let done: Vec<_> = held.messages.iter().map(|held| (held.token, Settle::Done)).collect();
    let answers = first.settle(&done).await.unwrap();
    assert!(answers.iter().all(|answer| *answer == Answer::Taken), "{answers:?}");
    let revoked = receive(&first, |all| !all.revoked.is_empty()).await;
    assert_eq!((revoked.revoked.len(), revoked.messages.len()), (1, 0), "cooperative: one stays");
    // The second member gets only new messages.
    let publisher = {
        let name = first.name().to_owned();
        cluster.publisher(&buttress_kafka::Topic::new(name).partitions(2)).await
    };
    for number in 0..20 {
        publish(&publisher, &format!("key-{number}"), "1").await;
    }
    let new = joining.await.unwrap();
    assert!(new.messages.iter().all(|message| message.payload == b"1"), "{new:?}");
    let moved: Vec<_> = new.messages.iter().map(|message| message.shard).collect();
    assert!(moved.iter().all(|shard| revoked.revoked.contains(shard)), "{moved:?}");
    first.close().await.unwrap();
    second.close().await.unwrap();
}

#[tokio::test]
async fn events_2_3_a_message_that_outlasts_the_grace_is_late_and_delivered_again() {
    let cluster = Cluster::mock();
    let (first, second, held) = first_holds_all(&cluster, 100 * MS).await;
    let begin = async {
        let revoked = receive(&first, |all| !all.revoked.is_empty()).await;
        revoked.revoked
    };
    let (revoked, again) = tokio::join!(begin, receive(&second, |all| !all.messages.is_empty()));
    assert_eq!(again.messages[0].shard, revoked[0]);
    let done: Vec<_> = held.messages.iter().map(|held| (held.token, Settle::Done)).collect();
    for (held, answer) in held.messages.iter().zip(first.settle(&done).await.unwrap()) {
        let expected = if held.shard == revoked[0] { Answer::Late } else { Answer::Taken };
        assert_eq!(answer, expected, "{:?}", held.shard);
    }
    first.close().await.unwrap();
    second.close().await.unwrap();
}

#[tokio::test]
async fn events_2_10_and_2_9_a_busy_and_paused_member_keeps_its_partitions() {
    let cluster = Cluster::mock();
    // A member that is not polled for this long would lose them.
    let kafka = cluster.kafka.clone().set("max.poll.interval.ms", "3000");
    let topic = cluster.topic("paused", 2);
    let handled = Handled::default();
    let source = kafka.subscribe(&topic, cluster.group(&topic)).await.unwrap();
    let member = handled.consumer(source, 7 * SECOND);
    publish(&cluster.publisher(&topic).await, "a", "0").await;
    until("it runs", || member.stats().running == 1).await;
    member.pause();
    until("it is handled", || member.stats().handled == 1).await;
    let stats = member.stats();
    assert_eq!((stats.revoked, stats.late, stats.received), (0, 0, 1));
    member.resume();
    publish(&cluster.publisher(&topic).await, "a", "1").await;
    until("the next one is handled", || member.stats().handled == 2).await;
    assert_eq!(handled.all().len(), 2);
    member.shut_down().await;
}

#[tokio::test]
async fn events_2_11_a_member_that_leaves_commits_what_is_handled() {
    let (cluster, topic, publisher) = Cluster::mock_with("leaves", 1).await;
    for number in 0..10 {
        publish(&publisher, "a", &number.to_string()).await;
    }
    let first = cluster.member(&topic).await;
    first.want(10);
    let held = receive(&first, |all| all.messages.len() == 10).await;
    let mut settled: Vec<_> = held.messages.iter().map(|held| (held.token, Settle::Done)).collect();
    settled[6].1 = Settle::Back;
    first.settle(&settled).await.unwrap();
    first.close().await.unwrap();
    let left = first.receive().await.unwrap();
    assert_eq!((left.revoked.len(), left.messages.len()), (1, 0));
    assert!(first.receive().await.unwrap_err().is_misconfigured(), "it has left");
    let second = cluster.member(&topic).await;
    second.want(10);
    let rest = receive(&second, |all| all.messages.len() == 4).await;
    let payloads: Vec<_> =
        rest.messages.iter().map(|message| String::from_utf8_lossy(&message.payload)).collect();
    assert_eq!(payloads, ["6", "7", "8", "9"], "from the lowest one that is not handled");
    drop(first);
    second.close().await.unwrap();
}

#[tokio::test]
async fn a_subscription_without_a_consumer_owns_nothing() {
    let cluster = Cluster::mock();
    let topic = cluster.topic("idle", 2);
    let idle = cluster.member(&topic).await;
    let handled = Handled::default();
    let member = handled.consumer(cluster.member(&topic).await, Duration::ZERO);
    let publisher = cluster.publisher(&topic).await;
    for number in 0..20 {
        publish(&publisher, &format!("key-{number}"), "0").await;
    }
    until("the one consumer handles all", || handled.distinct() == 20).await;
    member.shut_down().await;
    idle.close().await.unwrap();
}
