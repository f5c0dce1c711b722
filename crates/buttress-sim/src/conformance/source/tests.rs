use std::cell::RefCell;
use std::time::Duration;

use buttress::Clock;
use buttress_durable::bus::{Bus, Pattern, Subscribe, Subscription};
use buttress_durable::consume::{Batch, Settle, Start};
use buttress_durable::outbox::{Message, NewMessage};
use tower::BoxError;

use super::between::Between;
use super::{Features, Topology, Transport, all, topology};

/// The bus of one process, a new one for each case.
#[derive(Default)]
struct InProcess(RefCell<Bus>);

impl Transport for InProcess {
    type Source = Subscription;

    fn features(&self) -> Features {
        Features::all(10 << 20)
    }

    fn clock(&self) -> Clock {
        Clock::default()
    }

    async fn fresh(&self) {
        self.0.replace(Bus::new());
    }

    async fn publish(&self, message: NewMessage) -> Result<(), BoxError> {
        let bus = self.0.borrow().clone();
        Ok(bus.publish(Message::new(message, 0, 0, Duration::ZERO)).await?)
    }

    async fn subscribe(&self, group: &str) -> Subscription {
        match self.0.borrow().subscribe(group, Subscribe::new(Pattern::all()).capacity(4096)) {
            Ok(subscription) => subscription,
            Err(error) => panic!("subscribing: {error}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn events_2_the_bus_passes_every_case() {
    all(&InProcess::default()).await;
}

impl Topology for InProcess {
    /// The bus keeps nothing for a group that does not exist yet.
    fn can_begin(&self, start: Start) -> bool {
        start == Start::New
    }

    async fn subscribe_at(&self, group: &str, _: Start) -> Subscription {
        self.subscribe(group).await
    }

    async fn subscribe_otherwise(
        &self,
        group: &str,
    ) -> (Result<Subscription, BoxError>, &'static str) {
        let other = Subscribe::new(Pattern::all()).capacity(7);
        (self.0.borrow().subscribe(group, other).map_err(Into::into), "capacity")
    }
}

#[tokio::test(start_paused = true)]
async fn events_2_12_the_bus_passes_every_case_for_groups() {
    topology(&InProcess::default()).await;
}

/// A fault of a transport.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    LosesTopics,
    ReturnsWhatIsDone,
}

/// The bus, with a fault.
struct Faulty(InProcess, Fault);

impl Transport for Faulty {
    type Source = Between<Subscription>;

    fn features(&self) -> Features {
        self.0.features()
    }

    fn clock(&self) -> Clock {
        self.0.clock()
    }

    async fn fresh(&self) {
        self.0.fresh().await;
    }

    async fn publish(&self, message: NewMessage) -> Result<(), BoxError> {
        self.0.publish(message).await
    }

    async fn subscribe(&self, group: &str) -> Between<Subscription> {
        let (source, fault) = (self.0.subscribe(group).await, self.1);
        let received = move |batch: &mut Batch<u64>| {
            if fault == Fault::LosesTopics {
                batch.messages.iter_mut().for_each(|received| received.topic.clear());
            }
        };
        match fault {
            Fault::LosesTopics => Between::new(source, received, |how| how),
            Fault::ReturnsWhatIsDone => Between::new(source, received, |_| Settle::Back),
        }
    }
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "order.paid")]
async fn events_2_14_a_transport_that_loses_topics_fails() {
    all(&Faulty(InProcess::default(), Fault::LosesTopics)).await;
}

/// It once hung: the clock of a test moves only while nothing else happens.
#[tokio::test(start_paused = true)]
#[should_panic(expected = "settled messages come again")]
async fn events_2_1_a_transport_that_returns_what_is_done_fails() {
    all(&Faulty(InProcess::default(), Fault::ReturnsWhatIsDone)).await;
}
