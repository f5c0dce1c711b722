//! Replays of one group at the same time: a key belongs to one of them.

use super::*;

/// How long a claim lasts without a renewal.
const LEASE: Duration = Duration::from_secs(30);

impl World {
    /// Adds a consumer that parks keys. Its handler rejects new messages, and those that are replayed and `rejected`. It
    /// takes `time` for the others.
    fn parking(&self, time: Duration, rejected: &'static [&'static str]) -> ConsumerHandle {
        let config = config().on_dead(OnDead::Park).handler_timeout(10 * LEASE);
        self.consumer(config, move |delivery: Delivery| async move {
            let payload = String::from_utf8_lossy(delivery.payload()).into_owned();
            if delivery.replays() == 0 || rejected.contains(&payload.as_str()) {
                return Err(Rejected::new("no order").into());
            }
            pass(time).await;
            Ok(())
        })
    }

    /// Makes letters 1 to `last` of key a, and returns their ids.
    async fn letters(&self, last: usize) -> Vec<LetterId> {
        for number in 1..=last {
            self.publish("a", &number.to_string()).await;
        }
        pass(1000 * MS).await;
        self.seen();
        let dead = self.all_dead().await;
        assert_eq!(dead.len(), last);
        dead
    }

    async fn all_dead(&self) -> Vec<LetterId> {
        let page = LetterPage::first("billing", &Select::All, 1000);
        let dead = self.letters.list_letters(page).await.unwrap();
        dead.iter().map(|letter| letter.id).collect()
    }

    /// Returns how many letters another replay can claim now.
    async fn claimable(&self) -> usize {
        let page = LetterPage::first("billing", &Select::All, 1000);
        let claim = LetterClaim::new(page, ReplayId::new(7), Duration::ZERO);
        self.letters.claim_letters(claim).await.unwrap().len()
    }
}

fn numbers(range: std::ops::RangeInclusive<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn events_2_16_a_second_replay_does_not_overtake_the_first_one() {
    let world = World::new();
    let one = world.parking(10_000 * MS, &[]);
    let ids = world.letters(3).await;
    let other = world.parking(MS, &[]);
    assert_eq!(one.replay(Select::Ids(vec![ids[1]])).await.unwrap(), 1);
    pass(MS).await;
    assert_eq!(other.replay(Select::All).await.unwrap(), 3);
    pass(LEASE / 10).await;
    assert_eq!(world.payloads(), ["2"], "neither an earlier letter nor a later one");
    assert_eq!((other.stats().left_out, other.stats().replayed), (3, 0));
    pass(LEASE).await;
    assert_eq!(other.replay(Select::All).await.unwrap(), 2);
    pass(LEASE).await;
    assert_eq!((world.payloads(), world.dead().await.len()), (vec!["1".into(), "3".into()], 0));
    assert_eq!((other.stats().left_out, one.stats().left_out), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn events_2_16_the_second_of_two_replays_by_id_leaves_out_a_letter_of_the_same_key() {
    let world = World::new();
    let consumer = world.parking(10 * MS, &[]);
    let ids = world.letters(2).await;
    for id in ids {
        assert_eq!(consumer.replay(Select::Ids(vec![id])).await.unwrap(), 1, "it is found");
    }
    pass(1000 * MS).await;
    let stats = consumer.stats();
    assert_eq!((stats.handled, stats.left_out, world.dead().await.len()), (1, 1, 1));
    assert_eq!(world.payloads(), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn events_2_16_a_replay_does_not_hold_up_its_own_next_page() {
    let world = World::new();
    let consumer = world.parking(MS, &[]);
    world.letters(150).await;
    assert_eq!(consumer.replay(Select::All).await.unwrap(), 150);
    pass(1000 * MS).await;
    assert_eq!(world.payloads(), numbers(1..=150));
    let stats = consumer.stats();
    assert_eq!((stats.handled, stats.left_out, world.dead().await.len()), (150, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn events_2_16_letters_behind_one_that_dies_again_are_free_immediately() {
    let world = World::new();
    let consumer = world.parking(MS, &["120"]);
    world.letters(250).await;
    assert_eq!(consumer.replay(Select::All).await.unwrap(), 250);
    pass(1000 * MS).await;
    assert_eq!(world.payloads(), numbers(1..=120));
    let stats = consumer.stats();
    assert_eq!((stats.handled, stats.left_out), (119, 130));
    assert_eq!((world.all_dead().await.len(), world.claimable().await), (131, 131));
}

#[tokio::test(start_paused = true)]
async fn events_2_16_a_letter_that_was_removed_does_not_stop_a_replay() {
    let world = World::new();
    let consumer = world.parking(MS, &[]);
    let ids = world.letters(250).await;
    consumer.pause();
    assert_eq!(consumer.replay(Select::All).await.unwrap(), 250);
    assert_eq!(world.letters.remove_letters(&ids[149..150]).await.unwrap(), 1);
    consumer.resume();
    pass(1000 * MS).await;
    assert_eq!(world.payloads(), [numbers(1..=149), numbers(151..=250)].concat());
    assert_eq!((consumer.stats().left_out, world.dead().await.len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn events_2_16_a_replay_within_the_lease_of_one_that_crashed_leaves_out_its_keys() {
    let world = World::new();
    let one = world.parking(MS, &[]);
    let ids = world.letters(3).await;
    // The claim of a consumer that was killed.
    let (select, killed) = (Select::Ids(vec![ids[0]]), ReplayId::new(8));
    let page = LetterPage::first("billing", &select, 9);
    let claim = LetterClaim::new(page, killed, LEASE);
    assert_eq!(world.letters.claim_letters(claim).await.unwrap().len(), 1);
    pass(LEASE - MS).await;
    one.replay(Select::All).await.unwrap();
    pass(MS / 2).await;
    assert_eq!((one.stats().left_out, world.payloads().len()), (3, 0));
    pass(MS).await;
    one.replay(Select::All).await.unwrap();
    pass(1000 * MS).await;
    assert_eq!((world.payloads(), one.stats().left_out), (numbers(1..=3), 3));
}
