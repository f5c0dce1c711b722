//! Consumers that are killed with SIGKILL.

use std::collections::BTreeMap;
use std::time::Duration;

use buttress::{Clock, Rng};
use buttress_redis::streams::Trim;

use crate::child::Children;
use crate::consumers::{Collected, message, publish};
use crate::server::{Scene, until};

/// In the order of the effects: an effect and its receipt are one step of a script, as in a database's transaction.
async fn effects(scene: &Scene) -> Vec<String> {
    scene.ask(&["LRANGE", &format!("{}:effects", scene.name), "0", "-1"]).await
}

async fn calls(scene: &Scene) -> usize {
    scene.ask(&["LLEN", &format!("{}:calls", scene.name)]).await
}

fn start(children: &mut Children, scene: &Scene, lease: u64, hangs: bool) {
    let values = [
        ("name", scene.name.clone()),
        ("shards", "4".to_owned()),
        ("lease", lease.to_string()),
        ("hangs", u8::from(hangs).to_string()),
    ];
    children.start("consume", &scene.url, &values);
}

#[tokio::test]
async fn events_2_1_and_2_2_killed_consumers_lose_nothing_and_double_no_effect() {
    let Some(scene) = Scene::of("killed consumers", 4).await else { return };
    let mut publisher = scene.publisher(Trim::Handled).await;
    let mut children = Children::default();
    for _ in 0..2 {
        start(&mut children, &scene, 1000, false);
    }
    let (clock, rng) = (Clock::default(), Rng::seeded(7));
    let (keys, each, mut kills) = (20, 100, 0);
    for number in 0..each {
        for key in 0..keys {
            let key = format!("key-{key}");
            publish(&mut publisher, message(&key, format!("{key} {number}"))).await;
        }
        if number % 15 == 14 {
            // Immediately: messages of every key are being handled.
            children.kill((kills % 2) as usize).await;
            kills += 1;
            start(&mut children, &scene, 1000, false);
        }
        clock.sleep(Duration::from_millis(rng.between(20, 60))).await;
    }
    let all = keys * each;
    until("every effect is there", async || effects(&scene).await.len() >= all).await;
    // The children that live acknowledge what they have handled.
    until("everything is acknowledged", async || {
        let mut pending = 0;
        for shard in 0..4 {
            let stream = format!("{{{}}}:{shard}", scene.name);
            let found: Vec<redis::Value> = scene.ask(&["XPENDING", &stream, "billing"]).await;
            let redis::Value::Int(count) = found[0] else { panic!("{found:?}") };
            pending += count;
        }
        pending == 0
    })
    .await;
    let effects = effects(&scene).await;
    assert_eq!(effects.len(), all, "none is lost, none is doubled");
    let mut next: BTreeMap<&str, usize> = BTreeMap::new();
    for effect in &effects {
        let (key, number) = effect.split_once(' ').unwrap();
        let next = next.entry(key).or_default();
        assert_eq!(number.parse::<usize>().unwrap(), *next, "{key}: first handlings in order");
        *next += 1;
    }
    let repeated = calls(&scene).await - all;
    println!("{all} messages, {kills} kills, {repeated} handled again");
    assert!(kills == 6 && repeated <= 6 * 128, "at most what was in flight: {repeated}");
    drop(children);
    scene.end().await;
}

#[tokio::test]
async fn events_8_a_shard_is_taken_over_within_its_lease_and_a_second() {
    let Some(scene) = Scene::of("a take-over", 4).await else { return };
    let mut all = Vec::new();
    // A busy machine can stop a process for a second.
    while all.len() < 5 {
        let took = take_over(&Scene::at(scene.url.clone(), 4)).await;
        println!("taken over after {took:?}");
        if took <= Duration::from_secs(3) {
            return;
        }
        all.push(took);
    }
    panic!("a lease of two seconds and a second: {all:?}");
}

/// Returns how long a consumer waited for a shard of a killed child, whose lease has two seconds.
async fn take_over(scene: &Scene) -> Duration {
    let mut publisher = scene.publisher(Trim::Handled).await;
    let mut children = Children::default();
    start(&mut children, scene, 2000, true);
    publish(&mut publisher, message("a", "a 0")).await;
    until("the child handles it", async || calls(scene).await == 1).await;
    let consumer = Collected::by(scene.source("billing").await);
    let clock = Clock::default();
    let begun = clock.now();
    children.kill(0).await;
    consumer.until_has(1).await;
    let took = clock.now() - begun;
    consumer.consumer.shut_down().await;
    scene.end().await;
    took
}
