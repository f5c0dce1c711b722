//! A consumer whose dead letters lose answers.

use super::*;
use crate::answer::Answer;

/// A number of failing writes that stands for one panic.
const PANICS: u32 = u32::MAX;

/// Dead letters whose first writes lose their answers, and which may renew no claim.
#[derive(Clone)]
pub(super) struct Faulty {
    pub store: MemoryDeadLetters,
    pub failing_writes: Arc<Mutex<u32>>,
    pub renews: bool,
}

impl DeadLetters for Faulty {
    async fn bury_letter(&self, letter: &Letter) -> Answer<()> {
        if *self.failing_writes.lock().unwrap() == PANICS {
            *self.failing_writes.lock().unwrap() = 0;
            panic!("the store panics");
        }
        // The write happens, and its answer is lost.
        self.store.bury_letter(letter).await?;
        let mut failures = self.failing_writes.lock().unwrap();
        if *failures > 0 {
            *failures -= 1;
            return Err(StoreError::transient("no answer"));
        }
        Ok(())
    }

    async fn rebury_letter(&self, replay: ReplayId, letter: &Letter) -> Answer<()> {
        self.store.rebury_letter(replay, letter).await
    }

    async fn resolve_letter(&self, replay: Replay) -> Answer<()> {
        self.store.resolve_letter(replay).await
    }

    async fn list_letters(&self, page: LetterPage<'_>) -> Answer<Vec<Letter>> {
        self.store.list_letters(page).await
    }

    async fn claim_letters(&self, claim: LetterClaim<'_>) -> Answer<Vec<Letter>> {
        self.store.claim_letters(claim).await
    }

    async fn renew_replays(&self, replays: &[Replay], lease: Duration) -> Answer<Vec<bool>> {
        if self.renews { self.store.renew_replays(replays, lease).await } else { pending().await }
    }

    async fn remove_letters(&self, ids: &[LetterId]) -> Answer<usize> {
        self.store.remove_letters(ids).await
    }

    async fn purge_letters(&self, group: &str, age: Duration, limit: usize) -> Answer<usize> {
        self.store.purge_letters(group, age, limit).await
    }

    async fn holds_key(&self, group: &str, key: &str) -> Answer<bool> {
        self.store.holds_key(group, key).await
    }

    async fn letter_backlog(&self, group: &str) -> Answer<LetterBacklog> {
        self.store.letter_backlog(group).await
    }
}

#[tokio::test(start_paused = true)]
async fn events_2_5_a_lost_answer_of_the_store_makes_one_letter_and_the_key_waits_for_it() {
    let world = World::new();
    let failing_writes = Arc::new(Mutex::new(2));
    let letters = Faulty { store: world.letters.clone(), failing_writes, renews: true };
    let seen = world.seen.clone();
    let handler = service_fn(move |delivery: Delivery| {
        let payload = String::from_utf8_lossy(delivery.payload()).into_owned();
        seen.lock().unwrap().push((Duration::ZERO, payload.clone(), 1));
        async move {
            if payload == "1" { Err(BoxError::from(Rejected::new("no order"))) } else { Ok(()) }
        }
    });
    let consumer = Consumer::new(world.subscribe(), handler, config()).unwrap();
    let consumer = consumer.dead_letters(letters).spawn();
    world.publish("a", "1").await;
    world.publish("a", "2").await;
    pass(50 * MS).await;
    assert_eq!(world.payloads(), ["1"], "2 waits for the letter");
    assert_eq!(consumer.look().await.status(), Status::Degraded);
    pass(1000 * MS).await;
    assert_eq!(world.payloads(), ["2"]);
    assert_eq!(consumer.look().await.status(), Status::Up);
    let dead = world.dead().await;
    assert_eq!((dead.len(), dead[0].reason, dead[0].attempts), (1, Reason::Rejected, 1));
    assert_eq!(dead[0].error, "the handler rejects the message: no order");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_panics_is_asked_again() {
    let world = World::new();
    let failing_writes = Arc::new(Mutex::new(PANICS));
    let letters = Faulty { store: world.letters.clone(), failing_writes, renews: true };
    let handler = service_fn(async |_: Delivery| Err::<(), _>(BoxError::from(Rejected::new("no"))));
    let consumer = Consumer::new(world.subscribe(), handler, config()).unwrap();
    let consumer = consumer.dead_letters(letters).spawn();
    world.publish("a", "1").await;
    pass(1000 * MS).await;
    let stats = consumer.stats();
    assert_eq!((stats.dead, stats.failed_operations, stats.held), (1, 1, 0));
    assert_eq!((world.dead().await.len(), consumer.has_ended()), (1, false));
}
