//! A consumer over the bus.

use super::*;

#[tokio::test(start_paused = true)]
async fn events_2_1_errors_panics_and_time_limits_are_attempts_and_the_message_is_handled() {
    let world = World::new();
    let consumer = world.consumer(config().handler_timeout(100 * MS), |delivery| async move {
        match delivery.attempt() {
            1 => no(),
            2 => panic!("a handler panics"),
            3 => pending().await,
            _ => Ok(()),
        }
    });
    world.publish("a", "1").await;
    pass(1000 * MS).await;
    let calls: Vec<_> = world.seen().into_iter().map(|(at, _, attempt)| (at, attempt)).collect();
    // Each wait is 200 ms, and the third attempt takes its limit.
    assert_eq!(calls, [(0, 1), (200, 2), (400, 3), (700, 4)]);
    let stats = consumer.stats();
    assert_eq!((stats.handled, stats.retried, stats.dead, stats.held), (1, 3, 0, 0));
    assert_eq!(world.bus.shut_down().await, 0);
}

#[tokio::test(start_paused = true)]
async fn events_2_1_a_dropped_consumer_loses_nothing() {
    let world = World::new();
    let handler = service_fn(|_: Delivery| pending::<Result<(), BoxError>>());
    let consumer = Consumer::new(world.subscribe(), handler, config()).unwrap();
    let (handle, letters) = (consumer.handle(), world.letters.clone());
    for number in ["4", "5"] {
        world.publish("b", number).await;
    }
    let run = spawn(consumer.dead_letters(letters).run());
    pass(MS).await;
    assert_eq!((handle.stats().running, handle.stats().held), (1, 2));
    run.abort();
    assert!(run.await.unwrap_err().is_cancelled());
    assert!(handle.has_ended());
    world.consumer(config(), async |_| Ok(()));
    pass(MS).await;
    assert_eq!(world.payloads(), ["4", "5"]);
}

#[tokio::test(start_paused = true)]
async fn events_2_3_a_key_keeps_its_order_over_attempts_and_other_keys_do_not_wait() {
    let world = World::new();
    let consumer = world.consumer(config(), |delivery| async move {
        if delivery.payload() == b"a1" && delivery.attempt() < 3 { no() } else { Ok(()) }
    });
    for payload in ["a1", "a2", "b1", "b2"] {
        world.publish(&payload[..1], payload).await;
    }
    pass(1000 * MS).await;
    let calls: Vec<_> = world.seen().into_iter().map(|(at, of, _)| (at, of)).collect();
    let expected = [(0, "a1"), (0, "b1"), (0, "b2"), (200, "a1"), (400, "a1"), (400, "a2")];
    assert_eq!(calls, expected.map(|(at, of)| (at, of.to_owned())));
    assert_eq!(consumer.stats().handled, 4);
}

#[tokio::test(start_paused = true)]
async fn events_2_5_the_fifth_failure_makes_a_dead_letter_with_everything() {
    let world = World::new();
    let consumer = world.consumer(config(), async |_| no());
    world.publish("a", "1").await;
    world.publish("a", "2").await;
    pass(10_000 * MS).await;
    let calls = world.seen();
    let first: Vec<_> = (0..5).map(|n| (n * 200, "1".to_owned(), n as u32 + 1)).collect();
    assert_eq!(calls[..5], first, "at its backoff, and not more often");
    assert_eq!(calls[5..].len(), 5, "then the key continues");
    let dead = world.dead().await;
    assert_eq!(dead.len(), 2);
    let Letter { group, source, key, topic, payload, headers, reason, error, attempts, .. } =
        &dead[0];
    assert_eq!((&**group, &**source, &**key, &**topic), ("billing", "bus", "a", "order.paid"));
    assert_eq!(
        (&**payload, *reason, &**error, *attempts),
        (&b"1"[..], Reason::Exhausted, "away", 5)
    );
    assert_eq!(headers[..], [("x-tenant".to_owned(), "7".to_owned())]);
    assert_eq!((consumer.stats().dead, consumer.stats().held), (2, 0));
    assert_eq!(world.bus.shut_down().await, 0, "acknowledged");
}

#[tokio::test(start_paused = true)]
async fn events_2_6_bytes_that_are_no_event_are_dead_at_once() {
    #[derive(Debug, thiserror::Error)]
    #[error("cannot bill")]
    struct Billing(#[from] DecodeError);

    let world = World::new();
    world.consumer(config(), |delivery| async move {
        // The error of the handler has the decoder's as its cause.
        delivery.envelope().map_err(Billing)?;
        Ok(())
    });
    world.publish("a", "\0").await;
    pass(5000 * MS).await;
    assert_eq!(world.payloads().len(), 1);
    let dead = world.dead().await;
    assert_eq!(dead[0].reason, Reason::Undecodable);
    assert!(dead[0].error.starts_with("cannot bill: ") && dead[0].error.contains("`specversion`"));
    // A plain message of an outbox has this error too: it says how to write an event.
    assert!(dead[0].error.contains("`Event::into_message`"), "{}", dead[0].error);
}

#[tokio::test(start_paused = true)]
async fn events_2_7_an_unknown_event_is_acknowledged_dead_or_attempted_again() {
    for (unknown, calls, handled, dead) in
        [(Unknown::Ack, 1, 1, 0), (Unknown::Dead, 1, 0, 1), (Unknown::Again, 5, 0, 1)]
    {
        let world = World::new();
        let consumer = world.consumer(config().unknown(unknown), async |_| {
            Err(UnknownEvent { kind: "order.lost".to_owned(), version: 2 }.into())
        });
        world.publish("a", "1").await;
        pass(5000 * MS).await;
        let stats = consumer.stats();
        assert_eq!((world.payloads().len(), stats.handled, stats.dead), (calls, handled, dead));
        let reasons: Vec<_> = world.dead().await.iter().map(|letter| letter.reason).collect();
        match unknown {
            Unknown::Ack => assert_eq!(reasons, []),
            Unknown::Dead => assert_eq!(reasons, [Reason::Unknown]),
            Unknown::Again => assert_eq!(reasons, [Reason::Exhausted]),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn events_2_10_a_pause_ends_what_runs_and_a_resume_goes_on() {
    let world = World::new();
    let consumer = world.consumer(config(), async |_| done_after(100 * MS).await);
    world.publish("a", "1").await;
    world.publish("a", "2").await;
    pass(MS).await;
    consumer.pause();
    world.publish("b", "3").await;
    pass(1000 * MS).await;
    assert_eq!(world.payloads(), ["1"]);
    assert!(consumer.is_paused());
    let found = consumer.look().await;
    assert_eq!((found.status(), consumer.stats().handled), (Status::Degraded, 1));
    consumer.resume();
    pass(1000 * MS).await;
    let mut rest = world.payloads();
    rest.sort_unstable();
    assert_eq!(rest, ["2", "3"]);
    assert_eq!(consumer.look().await.status(), Status::Up);
}

#[tokio::test(start_paused = true)]
async fn events_2_11_a_shutdown_settles_what_ended_and_returns_the_rest() {
    let world = World::new();
    let consumer = world.consumer(config().drain(300 * MS), |delivery| async move {
        let wait = if delivery.payload() == b"slow" { 1000 } else { 100 };
        pass(wait * MS).await;
        Ok(())
    });
    for (key, payload) in [("a", "1"), ("a", "2"), ("b", "slow")] {
        world.publish(key, payload).await;
    }
    pass(MS).await;
    let begun = world.clock.now();
    consumer.shut_down().await;
    assert_eq!(world.clock.now() - begun, 300 * MS, "the drain");
    assert!(consumer.has_ended());
    assert_eq!(consumer.look().await.status(), Status::Down);
    assert_eq!((consumer.stats().handled, world.payloads()), (1, vec!["1".into(), "slow".into()]));
    world.consumer(config(), async |_| Ok(()));
    pass(MS).await;
    assert_eq!(world.payloads(), ["2", "slow"]);
}

#[tokio::test(start_paused = true)]
async fn events_2_11_a_shutdown_without_handlers_ends_at_once() {
    let world = World::new();
    let consumer = world.consumer(config(), async |_| Ok(()));
    world.publish("a", "1").await;
    pass(MS).await;
    let begun = world.clock.now();
    consumer.shut_down().await;
    assert_eq!(world.clock.now(), begun);
    let error = consumer.replay(Select::All).await.unwrap_err();
    assert!(error.to_string().contains("has ended"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn events_2_13_a_million_waiting_messages_are_not_in_memory_of_the_consumer() {
    let world = World::new();
    let held = Arc::new(Mutex::new(0));
    let source = world.bus.subscribe("billing", Subscribe::new(Pattern::all()).capacity(1 << 20));
    let consumer = world.over(source.unwrap(), config(), async |_| pending().await);
    for _ in 0..10_000 {
        world.publish("", "x").await;
    }
    for _ in 0..100 {
        pass(MS).await;
        let mut most = held.lock().unwrap();
        *most = consumer.stats().held.max(*most);
    }
    assert_eq!((*held.lock().unwrap(), consumer.stats().running), (128, 64));
}

#[tokio::test(start_paused = true)]
async fn events_2_16_dead_letters_are_replayed_by_id_by_reason_and_all() {
    let world = World::new();
    let well = Arc::new(Mutex::new(false));
    let switch = well.clone();
    let consumer = world.consumer(config().retry(1, Backoff::none()), move |delivery| {
        let well = *switch.lock().unwrap();
        async move {
            match (well, delivery.payload()) {
                (true, _) if delivery.replays() > 0 => Ok(()),
                (_, b"rejected") => Err(Rejected::new("no order").into()),
                _ => no(),
            }
        }
    });
    for payload in ["1", "2", "rejected", "3"] {
        world.publish("", payload).await;
    }
    pass(MS).await;
    let dead = world.dead().await;
    assert_eq!((dead.len(), world.payloads().len()), (4, 4));
    let replay = async |select| {
        let found = consumer.replay(select).await.unwrap();
        pass(MS).await;
        (
            found,
            world.payloads().join(" "),
            world.letters.letter_backlog("billing").await.unwrap().letters,
        )
    };
    let one = Select::Ids(vec![dead[1].id]);
    assert_eq!(replay(one.clone()).await, (1, "2".to_owned(), 4), "it fails again");
    let page = LetterPage::first("billing", &one, 9);
    let again = world.letters.list_letters(page).await.unwrap();
    assert_eq!((again[0].replays, again[0].attempts), (1, 1), "it carries how often");
    *well.lock().unwrap() = true;
    assert_eq!(replay(Select::Reason(Reason::Rejected)).await, (1, "rejected".to_owned(), 3));
    assert_eq!(replay(Select::All).await, (3, "1 2 3".to_owned(), 0));
    assert_eq!(replay(Select::All).await, (0, String::new(), 0));
    assert_eq!(consumer.stats().replayed, 5);
}

#[tokio::test(start_paused = true)]
async fn a_parked_key_waits_behind_its_dead_letter_until_it_is_replayed() {
    let world = World::new();
    let well = Arc::new(Mutex::new(false));
    let switch = well.clone();
    let park = config().retry(1, Backoff::none()).on_dead(OnDead::Park);
    let consumer = world.consumer(park, move |delivery| {
        let fails = !*switch.lock().unwrap() && delivery.payload() == b"1";
        async move { if fails { no() } else { Ok(()) } }
    });
    for (key, payload) in [("a", "1"), ("a", "2"), ("b", "x")] {
        world.publish(key, payload).await;
    }
    pass(MS).await;
    world.publish("a", "3").await;
    pass(MS).await;
    let mut calls = world.payloads();
    calls.sort_unstable();
    assert_eq!(calls, ["1", "x"]);
    let reasons: Vec<_> = world.dead().await.iter().map(|letter| letter.reason).collect();
    assert_eq!(reasons, [Reason::Exhausted, Reason::Parked, Reason::Parked]);
    *well.lock().unwrap() = true;
    assert_eq!(consumer.replay(Select::All).await.unwrap(), 3);
    pass(MS).await;
    world.publish("a", "4").await;
    pass(MS).await;
    assert_eq!(
        (world.payloads(), world.dead().await.len()),
        (["1", "2", "3", "4"].map(String::from).to_vec(), 0)
    );
}

#[tokio::test(start_paused = true)]
async fn events_1_5_the_handler_runs_in_the_context_of_the_event() {
    let world = World::new();
    let seen = Arc::new(Mutex::new(None));
    let kept = seen.clone();
    world.consumer(config(), move |delivery| {
        let kept = kept.clone();
        async move {
            let correlation = Context::peek(|context| context.correlation().cloned());
            let made = Event::new("1", "billing", "invoice.sent", "invoice-1", ());
            let received = delivery.envelope()?;
            *kept.lock().unwrap() =
                Some((correlation, made.causation == Some(received.id), Context::deadline()));
            Ok(())
        }
    });
    let correlation: buttress::context::CorrelationId = "order-7".parse().unwrap();
    let context = Context::new().with_correlation(correlation.clone());
    let id = MessageId::new(7);
    let event =
        context.sync_scope(|| Event::new(id, "shop", "order.paid", "order-7", b"x".to_vec()));
    world.publish_new(event.into_message().unwrap()).await;
    let begun = world.clock.now();
    pass(MS).await;
    let seen = seen.lock().unwrap().take().unwrap();
    let deadline = Some(begun + Duration::from_secs(30));
    assert_eq!(seen, (Some(correlation), true, deadline));
}

#[tokio::test(start_paused = true)]
async fn events_2_2_with_the_inbox_a_repeated_delivery_has_one_effect() {
    let world = World::new();
    let store = outbox::MemoryStore::new(world.clock.clone());
    let effects = Arc::new(Mutex::new(0));
    let (inbox, done) = (store.clone(), effects.clone());
    world.consumer(config(), move |delivery| {
        let (inbox, done) = (inbox.clone(), done.clone());
        async move {
            let mut tx = inbox.begin();
            if delivery.first(&mut tx, &inbox, "billing").await? == outbox::Receipt::First {
                *done.lock().unwrap() += 1;
            }
            tx.commit();
            // The effect is committed, and the attempt fails nevertheless.
            if delivery.attempt() < 3 { no() } else { Ok(()) }
        }
    });
    let event = Event::new(MessageId::new(7), "shop", "order.paid", "order-7", b"x".to_vec());
    world.publish_new(event.into_message().unwrap()).await;
    pass(1000 * MS).await;
    assert_eq!((world.payloads().len(), *effects.lock().unwrap()), (3, 1));
}

#[test]
fn bad_values_are_refused_with_their_field() {
    for (config, field) in [
        (Config::new().concurrency(0), "concurrency"),
        (Config::new().prefetch(10_001), "prefetch"),
        (Config::new().retry(0, Backoff::none()), "attempts"),
        (Config::new().max_redeliveries(0), "max-redeliveries"),
        (Config::new().handler_timeout(Duration::ZERO), "handler-timeout"),
        (Config::new().drain(Duration::MAX), "drain"),
        (Config::new().due_poll(Duration::ZERO), "due-poll"),
        (Config::new().max_hint(Duration::ZERO), "max-hint"),
    ] {
        let handler = service_fn(async |_: Delivery| Ok::<(), BoxError>(()));
        let error = Consumer::new(World::new().subscribe(), handler, config).unwrap_err();
        assert!(error.to_string().contains(field), "{error}");
    }
}
