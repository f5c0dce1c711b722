//! Groups of three members that come, go and are killed under load.

use std::time::Duration;

use buttress::{Clock, Rng};
use buttress_kafka::{Publisher, Topic};

use crate::child::Children;
use crate::cluster::{Cluster, SECOND};
use crate::handled::{Handled, publish, until};

const PARTITIONS: i32 = 6;
const KEYS: usize = 20;

/// Publishes a message of every key, and waits a little.
async fn round(publisher: &Publisher, number: usize) {
    for key in 0..KEYS {
        publish(publisher, &format!("key-{key}"), &number.to_string()).await;
    }
    Clock::default().sleep(Duration::from_millis(20)).await;
}

/// Starts a group of three processes. One of them has handled a first message.
async fn three_children(cluster: &Cluster, topic: &Topic, publisher: &Publisher) -> Children {
    let mut children = Children::new(cluster, topic.name(), PARTITIONS);
    for _ in 0..3 {
        children.start();
    }
    publish(publisher, "begin", "0").await;
    until("a child handles", || children.handled().distinct() == 1).await;
    children
}

/// Waits until the first message and all `rounds` are handled, in order. Returns how many messages there were, and
/// how many were handled again.
async fn all_are_handled(children: &Children, rounds: usize) -> (usize, usize) {
    let all = rounds * KEYS + 1;
    until("every message is handled", || children.handled().distinct() == all).await;
    let handled = children.handled();
    handled.assert_first_in_order();
    (all, handled.all().len() - all)
}

/// Members leave and join in turn. No message is lost or handled out of order, and a member that leaves hands its
/// partitions over.
async fn members_come_and_go(cluster: &Cluster) {
    let topic = cluster.topic("come_and_go", PARTITIONS);
    let (publisher, handled) = (cluster.publisher(&topic).await, Handled::default());
    let takes = Duration::from_millis(3);
    let mut members = Vec::new();
    for _ in 0..3 {
        members.push(handled.consumer(cluster.member(&topic).await, takes));
    }
    let (mut rounds, mut changes) = (0, 0);
    while changes < 3 || rounds < 300 {
        assert!(rounds < 5000, "a member has no partition");
        round(&publisher, rounds).await;
        rounds += 1;
        // The broker of the tests assigns nothing for minutes if a member leaves before the first assignment.
        let is_settled = members.iter().all(|member| member.stats().handled > 0);
        if changes < 3 && rounds % 50 == 0 && is_settled {
            members.remove(0).shut_down().await;
            members.push(handled.consumer(cluster.member(&topic).await, takes));
            changes += 1;
        }
    }
    until("every message is handled", || handled.distinct() == rounds * KEYS).await;
    handled.assert_first_in_order();
    let again = handled.all().len() - handled.distinct();
    println!("{} messages, {changes} members left, {again} handled again", rounds * KEYS);
    // The mock cluster excludes a member that is slow to ask for its assignment, and refuses positions until it has joined
    // again. Then a window of each partition that moves is handled again at most.
    let most = if cluster.mock.is_some() { changes * 2 * 1000 } else { 0 };
    assert!(again <= most, "{again} handled again");
    for member in members {
        member.shut_down().await;
    }
}

#[tokio::test]
async fn events_2_3_members_come_and_go_on_the_mock_cluster() {
    members_come_and_go(&Cluster::mock()).await;
}

#[tokio::test]
async fn events_2_3_members_come_and_go_on_a_broker() {
    let Some(cluster) = Cluster::broker("members that come and go") else { return };
    members_come_and_go(&cluster).await;
}

/// One of three processes is killed with SIGKILL and replaced, twice.
async fn members_are_killed(cluster: &Cluster) {
    let topic = cluster.topic("killed", PARTITIONS);
    let publisher = cluster.publisher(&topic).await;
    let mut children = three_children(cluster, &topic, &publisher).await;
    let (rounds, mut kills) = (200, 0);
    for number in 0..rounds {
        round(&publisher, number).await;
        if number % 80 == 60 {
            children.kill();
            children.start();
            kills += 1;
        }
    }
    let (all, again) = all_are_handled(&children, rounds).await;
    println!("{all} messages, {kills} kills, {again} handled again");
    // At most a window of each partition of a killed process.
    assert!(kills == 2 && again <= kills * 2 * 1000, "{again}");
}

#[tokio::test]
async fn events_2_1_members_are_killed_on_the_mock_cluster() {
    members_are_killed(&Cluster::mock()).await;
}

#[tokio::test]
async fn events_2_1_members_are_killed_on_a_broker() {
    let Some(cluster) = Cluster::broker("members that are killed") else { return };
    members_are_killed(&cluster).await;
}

/// For a time, processes of a group of three are killed with SIGKILL, leave, and are joined by a fourth, in turn.
async fn members_come_go_and_are_killed(cluster: &Cluster) {
    let seconds = std::env::var("BUTTRESS_KAFKA_SECONDS").ok().and_then(|text| text.parse().ok());
    let time = Duration::from_secs(seconds.unwrap_or(8));
    let topic = cluster.topic("changing", PARTITIONS);
    let publisher = cluster.publisher(&topic).await;
    let mut children = three_children(cluster, &topic, &publisher).await;
    let (clock, rng) = (Clock::default(), Rng::default());
    let (begun, mut rounds, mut changes, mut kills) = (clock.now(), 0, 0, 0);
    let mut next = begun;
    while clock.now() < begun + time {
        round(&publisher, rounds).await;
        rounds += 1;
        if clock.now() < next {
            continue;
        }
        match changes % 3 {
            0 => {
                children.kill();
                children.start();
                kills += 1;
            }
            1 => {
                children.dismiss();
                children.start();
            }
            _ => {
                children.start();
                children.dismiss();
            }
        }
        changes += 1;
        next = clock.now() + Duration::from_millis(rng.between(1500, 4000));
    }
    let (all, again) = all_are_handled(&children, rounds).await;
    println!("{all} messages, {changes} changes, {kills} kills, {again} handled again");
    // At most a window of each partition of a killed process.
    assert!(kills > 0 && again <= kills * PARTITIONS as usize * 1000, "{again}");
}

#[tokio::test]
async fn events_2_1_members_come_go_and_are_killed_on_the_mock_cluster() {
    members_come_go_and_are_killed(&Cluster::mock()).await;
}

#[tokio::test]
async fn events_2_1_members_come_go_and_are_killed_on_a_broker() {
    let Some(cluster) = Cluster::broker("members that come, go and are killed") else { return };
    members_come_go_and_are_killed(&cluster).await;
}

#[tokio::test]
async fn events_8_a_partition_of_a_killed_member_is_taken_over_after_its_session() {
    let Some(cluster) = Cluster::broker("a take-over") else { return };
    let topic = cluster.topic("take_over", 1);
    let publisher = cluster.publisher(&topic).await;
    let mut children = Children::new(&cluster, topic.name(), 1);
    publish(&publisher, "a", "0").await;
    children.start();
    until("the child handles", || children.handled().all().len() == 1).await;
    let handled = Handled::default();
    let member = handled.consumer(cluster.member(&topic).await, Duration::ZERO);
    publish(&publisher, "a", "1").await;
    until("the partition has one owner", || {
        children.handled().all().len() + handled.all().len() >= 2
    })
    .await;
    children.kill();
    let (clock, killed) = (Clock::default(), Clock::default().now());
    publish(&publisher, "a", "2").await;
    until("the other member handles", || handled.all().iter().any(|(_, text)| text == "2")).await;
    let took = clock.now() - killed;
    println!("taken over after {took:?}");
    // The session, a heartbeat of the living member, and the rebalance, for which the broker waits for 3 seconds: 9 seconds
    // on a quiet machine, as benches/events measures. The other tests load the broker here.
    assert!(took < 25 * SECOND, "{took:?}");
    member.shut_down().await;
}
