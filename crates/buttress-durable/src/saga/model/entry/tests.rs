use super::*;

#[test]
fn every_kind_is_taken_apart_and_put_together() {
    for code in 1..=u8::MAX {
        let Some(kind) = EntryKind::from_code(code) else { break };
        let why = Some("why".to_owned());
        let entry = Entry::from_parts(kind, 7, Some(b"out"), why).unwrap();
        assert_eq!((entry.kind(), kind.code()), (kind, code));
        let is_why =
            entry.note().is_some() && !matches!(kind, EntryKind::WaitStarted | EntryKind::ChildOf);
        assert_eq!(is_why, entry.clone().note_mut().is_some(), "{kind:?}");
        let (payload, note) = (entry.payload().copied(), entry.note().map(str::to_owned));
        let again = Entry::from_parts(kind, entry.step(), payload, note);
        assert_eq!(again, Some(entry.clone()));
        // A kind with a payload needs one. A wait needs its length, and a child its parent.
        let without = Entry::<&[u8; 3]>::from_parts(kind, 7, None, None);
        let needs = entry.payload().is_some()
            || matches!(kind, EntryKind::WaitStarted | EntryKind::ChildOf);
        assert_eq!(without.is_none(), needs, "{kind:?}");
    }
}

#[test]
fn a_wait_is_read_as_it_was_written() {
    for length in [
        Duration::ZERO,
        Duration::from_nanos(1),
        Duration::new(259_200, 500_000_000),
        Duration::MAX,
    ] {
        assert_eq!(Entry::<()>::wait_started(3, length).wait(), Some(length));
    }
    for text in ["", "1 s", "1.0 s", "1.000000000", "+1.000000000 s", "-1.000000000 s", "why"] {
        let entry = Entry::<()>::WaitStarted { step: 3, length: text.to_owned() };
        assert_eq!(entry.wait(), None, "{text:?}");
    }
    assert_eq!(Entry::<()>::WaitEnded { step: 3 }.wait(), None);
}
