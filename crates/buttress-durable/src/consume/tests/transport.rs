//! A consumer over a transport that follows a script.

use super::*;

/// The calls of the transport.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Asked {
    Receive,
    Settle(Vec<(u64, Settle)>),
    Keep(Vec<u64>),
    Close,
}

type Answers = Mutex<VecDeque<Result<Batch<u64>, StoreError>>>;

/// A transport whose answers a test writes. `receive` waits for an answer.
#[derive(Clone, Default)]
pub(super) struct Scripted {
    limits: Limits,
    answers: Arc<Answers>,
    written: Arc<Notify>,
    asked: Arc<Mutex<Vec<(u128, Asked)>>>,
    settles_fail: Arc<Mutex<u32>>,
    /// The capacity, and the first room.
    announced: Arc<Mutex<Vec<usize>>>,
    clock: Clock,
}

impl Scripted {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    fn answer(&self, answer: Result<Batch<u64>, StoreError>) {
        self.answers.lock().unwrap().push_back(answer);
        self.written.notify_one();
    }

    pub(super) fn deliver(&self, messages: &[(u64, &str)]) {
        let received = messages.iter().map(|(token, key)| {
            let number = *token % 100;
            let mut received = Received::new(*token, Shard(0), *key, number.to_string());
            received.place = Some(Place::Number(number));
            received
        });
        self.answer(Ok(Batch::new(received.collect())));
    }

    fn ask(&self, asked: Asked) {
        let now = self.clock.unix().as_millis();
        self.asked.lock().unwrap().push((now, asked));
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().unwrap())
            .into_iter()
            .map(|(_, asked)| asked)
            .collect()
    }

    /// Returns the milliseconds between the calls of `receive`.
    fn waits(&self) -> Vec<u128> {
        let asked = self.asked.lock().unwrap();
        let at = asked.iter().filter(|(_, asked)| *asked == Asked::Receive).map(|(at, _)| *at);
        let at: Vec<u128> = at.collect();
        at.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }
}

impl Source for Scripted {
    type Token = u64;

    fn name(&self) -> &str {
        "orders"
    }

    fn group(&self) -> &str {
        "billing"
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn announce_capacity(&self, messages: usize) {
        self.announced.lock().unwrap().push(messages);
    }

    fn want(&self, room: usize) {
        let mut announced = self.announced.lock().unwrap();
        if announced.len() < 2 {
            announced.push(room);
        }
    }

    async fn receive(&self) -> Result<Batch<u64>, StoreError> {
        self.ask(Asked::Receive);
        loop {
            let answer = self.answers.lock().unwrap().pop_front();
            match answer {
                Some(answer) => return answer,
                None => self.written.notified().await,
            }
        }
    }

    async fn settle(&self, done: &[(u64, Settle)]) -> Result<Vec<Answer>, StoreError> {
        self.ask(Asked::Settle(done.to_vec()));
        let mut fails = self.settles_fail.lock().unwrap();
        if *fails > 0 {
            *fails -= 1;
            return Err(StoreError::transient("the connection is cut"));
        }
        Ok(vec![Answer::Taken; done.len()])
    }

    async fn keep(&self, held: &[u64]) -> Result<Vec<Answer>, StoreError> {
        let mut sorted = held.to_vec();
        sorted.sort_unstable();
        self.ask(Asked::Keep(sorted));
        // The transport does not know message 2 any more.
        let late = |token: &u64| if *token == 2 { Answer::Late } else { Answer::Taken };
        Ok(held.iter().map(late).collect())
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.ask(Asked::Close);
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_transport_learns_the_capacity_before_the_first_room() {
    // With a bound for rests the consumer claims letters first, and names only a part of its room.
    let limits = Limits { hold: Some(1000 * MS), ..Limits::default() };
    let (world, source) = (World::new(), Scripted::new(limits));
    let consumer =
        world.over(source.clone(), config().concurrency(100).prefetch(50), async |_| Ok(()));
    pass(10 * MS).await;
    let announced = source.announced.lock().unwrap().clone();
    assert_eq!(announced[0], 150);
    assert!(announced[1] < 150, "{announced:?}");
    consumer.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_is_unavailable_is_asked_after_growing_waits_and_health_shows_it() {
    let (world, source) = (World::new(), Scripted::new(Limits::default()));
    for _ in 0..9 {
        source.answer(Err(StoreError::transient("connection refused")));
    }
    let consumer = world.over(source.clone(), config(), async |_| Ok(()));
    pass(500 * MS).await;
    let found = consumer.look().await;
    assert_eq!(found.status(), Status::Degraded);
    assert!(
        format!("{found:?}").contains("receiving messages: store: transient: connection refused")
    );
    source.deliver(&[(1, "a")]);
    pass(60_000 * MS).await;
    assert_eq!(source.waits()[..9], [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
    assert_eq!((world.payloads(), consumer.look().await.status()), (vec!["1".into()], Status::Up));
    assert_eq!(consumer.stats().failed_operations, 9);
}

#[tokio::test(start_paused = true)]
async fn a_settle_whose_answer_is_lost_is_repeated_and_the_message_is_not_handled_again() {
    let (world, source) = (World::new(), Scripted::new(Limits::default()));
    *source.settles_fail.lock().unwrap() = 2;
    world.over(source.clone(), config(), async |_| Ok(()));
    source.deliver(&[(1, "a")]);
    pass(150 * MS).await;
    // Delivered again over a new connection, while the settle is repeated.
    source.deliver(&[(101, "a")]);
    pass(5000 * MS).await;
    let settles = source.asked().into_iter().filter(|asked| matches!(asked, Asked::Settle(_)));
    let of = |token| Asked::Settle(vec![(token, Settle::Done)]);
    assert_eq!(settles.collect::<Vec<_>>(), [of(1), of(1), of(1), of(101)]);
    assert_eq!(world.payloads(), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn events_2_9_a_long_handler_is_kept_at_half_of_the_wait_and_not_delivered_twice() {
    let limits = Limits { keep: Some(2000 * MS), ..Limits::default() };
    let (world, source) = (World::new(), Scripted::new(limits));
    let consumer = world.over(source.clone(), config(), async |_| done_after(6500 * MS).await);
    source.deliver(&[(1, "a"), (2, "a"), (3, "b")]);
    pass(7000 * MS).await;
    let asked = source.asked();
    let keeps = asked.iter().filter(|asked| matches!(asked, Asked::Keep(_))).collect::<Vec<_>>();
    assert_eq!(keeps[0], &Asked::Keep(vec![1, 2, 3]));
    // Message 2 is not kept any more: another consumer has it.
    assert_eq!((keeps[1], keeps.len()), (&Asked::Keep(vec![1, 3]), 6));
    assert_eq!((world.payloads().len(), consumer.stats().handled), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_wait_beyond_what_the_transport_holds_is_replayed_at_its_time_once() {
    let limits = Limits { hold: Some(1000 * MS), ..Limits::default() };
    let (world, source) = (World::new(), Scripted::new(limits));
    let config = config().retry(5, Backoff::fixed(5000 * MS));
    let consumer = world.over(source.clone(), config, |delivery| async move {
        if delivery.replays() == 0 { no() } else { Ok(()) }
    });
    source.deliver(&[(1, "a"), (2, "a")]);
    pass(100 * MS).await;
    let calls = world.seen();
    assert_eq!(calls.len(), 2, "the key continues meanwhile");
    let dead = world.dead().await;
    assert_eq!((dead.len(), dead[0].reason), (2, Reason::Delayed));
    assert_eq!(dead[0].due_at.unwrap() - dead[0].died_at, 5000 * MS);
    pass(30_000 * MS).await;
    let replayed: Vec<_> = world.seen().into_iter().map(|(at, of, _)| (at, of)).collect();
    assert_eq!(replayed, [(5000, "1".to_owned()), (5000, "2".to_owned())]);
    assert_eq!((world.dead().await.len(), consumer.stats().replayed), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn lost_and_revoked_messages_are_counted_and_a_shutdown_leaves_the_group() {
    let (world, source) = (World::new(), Scripted::new(Limits::default()));
    let consumer = world.over(source.clone(), config(), async |_| done_after(100 * MS).await);
    source.deliver(&[(1, "a"), (2, "a")]);
    pass(MS).await;
    source.answer(Ok(Batch { revoked: vec![Shard(0)], lost: 3, ..Batch::default() }));
    pass(200 * MS).await;
    let stats = consumer.stats();
    assert_eq!((stats.lost, stats.revoked, stats.handled, stats.held), (3, 2, 0, 0));
    consumer.shut_down().await;
    let asked = source.asked();
    assert!(!asked.iter().any(|asked| matches!(asked, Asked::Settle(_))), "{asked:?}");
    assert_eq!(asked.last(), Some(&Asked::Close));
}

/// The handler of the earlier message once settled the other one, which no handler saw.
#[tokio::test(start_paused = true)]
async fn events_2_1_another_message_with_the_place_of_a_held_one_is_handled() {
    let (world, source) = (World::new(), Scripted::new(Limits::default()));
    let consumer = world.over(source.clone(), config(), async |_| done_after(100 * MS).await);
    source.deliver(&[(1, "a")]);
    pass(MS).await;
    // The topic was created again: another message is its first one now.
    let mut other = Received::new(2, Shard(0), "a", "other");
    other.place = Some(Place::Number(1));
    source.answer(Ok(Batch { revoked: vec![Shard(0)], messages: vec![other], ..Batch::default() }));
    pass(500 * MS).await;
    assert_eq!(world.payloads(), ["1", "other"]);
    let stats = consumer.stats();
    assert_eq!((stats.joined, stats.revoked, stats.handled, stats.held), (0, 1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_health_shows_the_cause_of_a_failure_too() {
    let (world, source) = (World::new(), Scripted::new(Limits::default()));
    let cause = std::io::Error::other("not authorized for the topic");
    source.answer(Err(StoreError::transient("receiving").with_source(cause)));
    let consumer = world.over(source.clone(), config(), async |_| Ok(()));
    pass(50 * MS).await;
    let found = format!("{:?}", consumer.look().await);
    assert!(found.contains("receiving: not authorized for the topic"), "{found}");
}
