//! Several relays that share one store, and all faults between them and the store.

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::retry::{Backoff, Jitter};
use buttress::{Rng, VirtualClock};
use buttress_durable::Answer;
use buttress_durable::outbox::{
    Config, MemoryStore, Message, MessageId, NewMessage, Outbox, Owned, Relay, Store, Write,
};
use buttress_sim::crash::{
    Ledger, Lived, Process, Schedule, Trouble, each_pair, each_seed, each_trouble,
};
use buttress_sim::hooked::outbox::Operation;
use buttress_sim::hooked::{Hook, Hooked, Operation as _, Run, answer};
use tower::{BoxError, service_fn};

use super::{executor, operations};

const LEASE: Duration = Duration::from_secs(10);
/// The time by which all messages are delivered.
const HORIZON: Duration = Duration::from_secs(600);
/// The time by which a relay acts that should no longer act.
const AFTERWARDS: Duration = Duration::from_secs(40);

#[derive(Clone)]
struct Scenario {
    relays: u32,
    messages: u32,
    keys: u32,
    /// The time of the consumer.
    takes: Duration,
    /// Every n-th delivery fails.
    fails: u32,
    ties: Option<u64>,
    /// The time between two messages.
    apart: Duration,
    /// How long delivered messages are kept; `None` for longer than the run.
    keeps: Option<Duration>,
}

impl Scenario {
    /// The time that the run continues after the last delivery.
    fn afterwards(&self) -> Duration {
        // A relay that finds nothing to purge looks again after a minute, and may stand still then.
        self.keeps.map_or(AFTERWARDS, |kept| kept + Duration::from_secs(60) + LEASE * 6)
    }
}

/// The troubles of one relay. They report the owner of a partition to the ledger when each effect
/// happens.
#[derive(Clone)]
struct Troubles {
    process: Process,
    ledger: Ledger,
}

impl Hook<Operation> for Troubles {
    async fn around<T: Any + Send>(&self, operation: Operation, run: Run<T>) -> Answer<T> {
        let name = operation.name();
        match operation {
            Operation::LeasePartitions { .. } => {
                let Self { process, ledger } = self.clone();
                let leased = async move {
                    let owned = run.await?;
                    for lease in &answer::<Owned, _>(&owned).leases {
                        ledger.owned(format!("partition {}", lease.partition), process.number());
                    }
                    Ok(owned)
                };
                self.process.operation(name, leased).await
            }
            // Operations that only read, or that a relay does not call.
            Operation::DeadLetters { .. }
            | Operation::Requeue { .. }
            | Operation::Discard { .. }
            | Operation::Backlog {}
            | Operation::PurgeReceipts { .. } => run.await,
            _ => self.process.operation(name, run).await,
        }
    }
}

/// The consumer: it handles each message once, and sometimes fails without an effect.
#[derive(Clone, Default)]
struct Consumer {
    seen: Arc<Mutex<(BTreeSet<MessageId>, u32)>>,
}

impl Consumer {
    fn consume(&self, ledger: &Ledger, message: &Message, fails: u32) -> Result<(), BoxError> {
        let mut seen = self.seen.lock().unwrap();
        seen.1 += 1;
        if seen.1 % fails == 0 {
            return Err("busy".into());
        }
        if seen.0.insert(message.id) {
            ledger.handled(&message.key, message.sequence);
        }
        Ok(())
    }
}

fn run(scenario: &Scenario, schedule: &Schedule) -> Lived {
    let time = VirtualClock::new();
    let mut executor = executor(&time, scenario.ties);
    // Without receipts, so that no relay has to keep or purge them.
    let store = MemoryStore::new(time.clock()).keep_receipts(None);
    let ledger = Ledger::new();
    let consumer = Consumer::default();
    let written = async {
        let mut tx = store.begin();
        for number in 0..scenario.messages {
            let key = format!("key-{}", number % scenario.keys);
            let message = NewMessage::new(MessageId::new(u128::from(number)), key, "x");
            let message = message.delay(scenario.apart * (number / scenario.keys));
            store.write(&mut tx, &message).await.unwrap();
        }
        tx.commit();
    };
    executor.block_on(written).unwrap();
    let mut running = Vec::new();
    let mut processes = Vec::new();
    for number in 1..=scenario.relays {
        let process = Process::new(number, &time, executor.spawner(), schedule);
        let (clock, takes, fails) = (process.clock(), scenario.takes, scenario.fails);
        let (consumer, told) = (consumer.clone(), ledger.clone());
        let publisher = service_fn(move |message: Message| {
            told.called(
                format!("partition {}", message.partition),
                number,
                format!("message {}", message.sequence),
            );
            let (consumer, told, clock) = (consumer.clone(), told.clone(), clock.clone());
            async move {
                let answer = consumer.consume(&told, &message, fails);
                clock.sleep(takes).await;
                answer
            }
        });
        let config = Config::new()
            .lease(LEASE)
            .batch(4)
            .retry(50, Backoff::exponential(Duration::from_millis(100)).jitter(Jitter::None))
            .clock(process.clock())
            .rng(Rng::seeded(u64::from(number)))
            .spawner(process.spawner());
        let config = match scenario.keeps {
            Some(kept) => config.keep_delivered(kept, 2),
            None => config,
        };
        let troubles = Troubles { process: process.clone(), ledger: ledger.clone() };
        let store = Hooked::new(store.clone(), troubles);
        running.push(Relay::new(&Outbox::new(store), publisher, config).unwrap().spawn());
        processes.push(process);
    }
    let clock = time.clock();
    let run = async {
        while time.elapsed() < HORIZON && store.backlog().await.unwrap().pending > 0 {
            clock.sleep(Duration::from_secs(1)).await;
        }
        let operations = operations(&processes);
        clock.sleep(scenario.afterwards()).await;
        let backlog = store.backlog().await.unwrap();
        if backlog.pending > 0 {
            ledger.stands_still("the outbox", format!("{backlog:?}"));
        }
        if backlog.held_keys > 0 {
            ledger.still_held("a key", format!("{backlog:?}"));
        }
        for number in 0..scenario.messages {
            let id = MessageId::new(u128::from(number));
            let times = i64::from(consumer.seen.lock().unwrap().0.contains(&id));
            ledger.effect(id, "delivery", times);
            ledger.recorded(id, "delivery", 1);
        }
        let left = store.purge_delivered(Duration::ZERO, 1_000).await.unwrap();
        if scenario.keeps.is_some() && left > 0 {
            ledger.violated(format!("{left} delivered messages are kept for too long"));
        }
        Lived { operations, verdict: ledger.check() }
    };
    let lived = executor.block_on(run).unwrap();
    drop(running);
    lived
}

fn scenario() -> Scenario {
    Scenario {
        relays: 2,
        messages: 6,
        keys: 2,
        takes: Duration::from_millis(300),
        fails: 5,
        ties: None,
        apart: Duration::ZERO,
        keeps: None,
    }
}

#[test]
fn no_message_leaves_a_relay_that_lost_its_partition() {
    let runs = each_trouble(&Trouble::around(LEASE), |schedule| run(&scenario(), schedule));
    assert!(runs.unwrap_or_else(|broken| panic!("{broken}")) > 100);
}

#[test]
fn two_troubles_keep_the_order_of_every_key() {
    let runs = each_pair(&Trouble::around(LEASE), 401, |schedule| run(&scenario(), schedule));
    runs.unwrap_or_else(|broken| panic!("{broken}"));
}

/// Messages come one after the other, and the first are purged before the last is there. A relay alone has no other
/// relay that purges in its place.
#[test]
fn a_purge_takes_only_what_was_delivered_and_takes_all_of_it() {
    let all = Trouble::around(LEASE);
    for (relays, troubles) in [(1, &[Trouble::Lost(Duration::MAX)][..]), (2, &all)] {
        let keeps = Some(Duration::from_secs(2));
        let apart = Duration::from_secs(6);
        let scenario = Scenario { relays, messages: 4, apart, keeps, ..scenario() };
        let runs = each_trouble(troubles, |schedule| run(&scenario, schedule));
        assert!(runs.unwrap_or_else(|broken| panic!("{broken}")) > 50);
    }
}

#[test]
fn any_seed_keeps_the_order_of_every_key() {
    let runs = each_seed(100, |seed| {
        let rng = seed.named("scenario");
        let one_of = |count: u64| rng.between(0, count - 1);
        let scenario = Scenario {
            relays: 2 + one_of(2) as u32,
            messages: 4 + one_of(8) as u32,
            keys: 1 + one_of(3) as u32,
            takes: Duration::from_millis([0, 300, 4_000, 12_000][one_of(4) as usize]),
            fails: 2 + one_of(5) as u32,
            ties: Some(rng.next_u64()),
            apart: Duration::from_secs([0, 0, 3][one_of(3) as usize]),
            keeps: (one_of(3) == 0).then_some(Duration::from_secs(2)),
        };
        let schedule = Schedule::random(&seed.named("schedule"), scenario.relays, 30, LEASE, 4);
        let lived = run(&scenario, &schedule);
        (schedule, lived)
    });
    runs.unwrap_or_else(|broken| panic!("{broken}"));
}

/// Found by seed 629176: the store carries out a renewal and releases partition 9, the answer is
/// lost, and a fetch from before returns messages of partition 9.
#[test]
fn nothing_leaves_a_partition_that_a_lost_renewal_released() {
    let scenario = Scenario {
        messages: 8,
        keys: 3,
        fails: 2,
        ties: Some(3_020_688_836_899_165_925),
        ..scenario()
    };
    let text = "1/2/after/late/1801,2/29/after/lost/16241,1/7/after/freeze/925,1/3/after/lost/8444";
    let lived = run(&scenario, &text.parse().unwrap());
    assert_eq!(lived.verdict, Ok(()));
}
