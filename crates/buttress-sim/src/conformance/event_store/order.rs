//! The order of all events.

use buttress_durable::event_store::{Append, Expected, Filter, Position, Store};

use super::super::{Harness, Transactions, all_of, cases, expect};
use super::{append, batch, exactly, number, numbers, order, ordered};

pub(super) async fn all<S: Store + Append<Tx>, Tx>(harness: &impl Transactions<S, Tx>) {
    cases!(harness:
        events_6_5_readers_see_every_event_once_in_one_order,
        events_6_15_a_stream_is_in_the_order_of_its_versions,
        pages_follow_each_other,
    );
}

/// Writers and readers that run concurrently.
async fn events_6_5_readers_see_every_event_once_in_one_order<S: Store>(harness: &impl Harness<S>) {
    const WRITERS: u32 = 8;
    const EACH: u32 = 20;
    let store = harness.fresh().await;
    let other = harness.reopen(&store).await;
    let (store, other) = (&store, &other);
    let write = |writer: u32| async move {
        for round in 0..EACH {
            let numbers = [writer * 1000 + 2 * round, writer * 1000 + 2 * round + 1];
            append(store, &batch(writer, exactly(2 * u64::from(round)), &numbers)).await;
        }
        Vec::new()
    };
    let writers = (0..WRITERS).map(|writer| boxed(write(writer)));
    let all = (2 * WRITERS * EACH) as usize;
    let readers = [boxed(read(store, 7, all)), boxed(read(other, 1000, all))];
    let mut seen = all_of(writers.chain(readers)).await;
    let seen = seen.split_off(WRITERS as usize);
    assert_eq!(seen[0], seen[1], "one order for every reader");
    assert_eq!(seen[0], order(&ordered(store).await), "and for a later one");
    for writer in 0..WRITERS {
        let own: Vec<u32> =
            seen[0].iter().copied().filter(|number| number / 1000 == writer).collect();
        assert_eq!(own, numbers(store, writer).await, "the order of versions");
        assert_eq!(own.len() as u32, 2 * EACH);
    }
}

/// Reads `all` events in pages. Returns their numbers in the order of their positions.
async fn read<S: Store>(store: &S, limit: usize, all: usize) -> Vec<u32> {
    let (mut seen, mut after) = (Vec::new(), Position::START);
    while seen.len() < all {
        let page = expect(store.read_all(after, &Filter::all(), limit).await, "read_all");
        for one in page.events {
            assert!(one.position > after, "{} after {after}", one.position);
            after = one.position;
            seen.push(number(&one.event.data));
        }
        assert!(page.through >= after);
        after = page.through;
        // Lets the writers run, also where a store answers immediately.
        yield_once().await;
    }
    seen
}

fn boxed<'a, T>(
    future: impl Future<Output = T> + 'a,
) -> std::pin::Pin<Box<dyn Future<Output = T> + 'a>> {
    Box::pin(future)
}

async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

async fn events_6_15_a_stream_is_in_the_order_of_its_versions<S: Store + Append<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    for round in 0..5u32 {
        let mut tx = harness.begin(&store).await;
        for of in [round % 2, 2, 3] {
            let first = u64::from(if of < 2 { round / 2 } else { round });
            let batch = batch(of, exactly(first), &[of * 100 + round]);
            super::appended(store.append_in(&mut tx, &batch).await, "append_in");
        }
        harness.commit(tx).await;
    }
    let all = ordered(&store).await;
    assert_eq!(all.len(), 15);
    for of in 0..4 {
        let name = super::stream(of);
        let versions: Vec<u64> = all
            .iter()
            .filter(|one| one.event.stream == name)
            .map(|one| one.event.version.get())
            .collect();
        assert_eq!(versions, (1..=versions.len() as u64).collect::<Vec<_>>());
    }
    let first: Vec<u32> = order(&all)[..3].to_vec();
    assert_eq!(first, [0, 200, 300], "the order of the appends of a transaction");
}

async fn pages_follow_each_other<S: Store>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    let page = expect(store.read_all(Position::START, &Filter::all(), 9).await, "read_all");
    assert_eq!((page.events.len(), page.through.get()), (0, 0), "an empty store");
    append(&store, &batch(1, Expected::New, &(0..250).collect::<Vec<_>>())).await;
    let (mut seen, mut after) = (Vec::new(), Position::START);
    for expected in [100, 200, 250, 250] {
        let page = expect(store.read_all(after, &Filter::all(), 100).await, "read_all");
        after = page.through;
        assert_eq!(after.get(), expected);
        seen.extend(page.events.iter().map(|one| number(&one.event.data)));
    }
    assert_eq!(seen, (0..250).collect::<Vec<_>>());
}
