//! Which messages the server has confirmed, and which it has returned. Pure.
//!
//! RabbitMQ returns a message that no queue takes, and then confirms it. It confirms several messages with one answer,
//! and the client attaches a returned message to the confirmation that it reads next, which can belong to another
//! message. So the id of the returned message decides, and the answers of one reading are judged together.

use std::collections::HashMap;

/// The end of a publish, as the client reports it. It has the id of a returned message, if one came with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Told {
    Ack(Option<String>),
    Nack(Option<String>),
}

/// The end of a publish.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Every queue that the message was routed to has it.
    Confirmed,
    /// No queue took it.
    Returned,
    /// Some queue did not take it.
    Refused,
    /// A returned message of another publish came in its place. Its own may come later.
    Unknown,
}

/// The returned messages of a channel that were not judged yet.
#[derive(Debug, Default)]
pub(super) struct Confirms {
    /// How many times the server returned each id. An id can be in progress twice: its first caller has stopped
    /// waiting.
    returned: HashMap<String, usize>,
}

impl Confirms {
    /// Judges the publishes that have ended, each with the id of its message. No confirmation that the client has read
    /// before one of them may be missing.
    pub(super) fn judge<T>(&mut self, told: Vec<(String, Told, T)>) -> Vec<(T, Verdict)> {
        for (_, Told::Ack(other) | Told::Nack(other), _) in &told {
            if let Some(id) = other {
                *self.returned.entry(id.clone()).or_default() += 1;
            }
        }
        let mut judged = Vec::with_capacity(told.len());
        for (id, told, publish) in told {
            let verdict = match told {
                _ if self.take(&id) => Verdict::Returned,
                Told::Nack(_) => Verdict::Refused,
                Told::Ack(None) => Verdict::Confirmed,
                Told::Ack(Some(_)) => Verdict::Unknown,
            };
            judged.push((publish, verdict));
        }
        judged
    }

    /// Takes one return of this id.
    fn take(&mut self, id: &str) -> bool {
        let Some(left) = self.returned.get_mut(id) else { return false };
        *left -= 1;
        if *left == 0 {
            self.returned.remove(id);
        }
        true
    }

    /// Forgets returned messages: no publish is in progress.
    pub(super) fn clear(&mut self) {
        self.returned.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn ack(id: &str, returned: Option<&str>) -> (String, Told, String) {
        (id.to_owned(), Told::Ack(returned.map(str::to_owned)), id.to_owned())
    }

    fn judge(confirms: &mut Confirms, told: Vec<(String, Told, String)>) -> Vec<(String, Verdict)> {
        confirms.judge(told)
    }

    #[test]
    fn events_2_15_a_returned_message_is_known_by_its_id() {
        let mut confirms = Confirms::default();
        let verdicts = judge(&mut confirms, vec![ack("a", None), ack("b", Some("b"))]);
        assert_eq!(verdicts, [("a".into(), Verdict::Confirmed), ("b".into(), Verdict::Returned)]);
        // The client gave the returned `b` to `a`, which the server confirmed at the same time.
        for told in
            [vec![ack("a", Some("b")), ack("b", None)], vec![ack("b", None), ack("a", Some("b"))]]
        {
            let verdicts: HashSet<_> = judge(&mut confirms, told)
                .into_iter()
                .map(|(id, verdict)| (id, verdict as u8))
                .collect();
            let expected = [
                ("a".to_owned(), Verdict::Unknown as u8),
                ("b".to_owned(), Verdict::Returned as u8),
            ];
            assert_eq!(verdicts, expected.into());
        }
        // In an earlier reading.
        judge(&mut confirms, vec![ack("a", Some("b"))]);
        let verdicts = judge(&mut confirms, vec![ack("b", None), ack("c", None)]);
        assert_eq!(verdicts, [("b".into(), Verdict::Returned), ("c".into(), Verdict::Confirmed)]);
    }

    #[test]
    fn events_2_15_an_id_that_is_under_way_twice_is_returned_twice() {
        let told = vec![ack("x", None), ack("x", None), ack("a", Some("x")), ack("b", Some("x"))];
        let verdicts = judge(&mut Confirms::default(), told);
        let expected = [
            ("x".to_owned(), Verdict::Returned),
            ("x".to_owned(), Verdict::Returned),
            ("a".to_owned(), Verdict::Unknown),
            ("b".to_owned(), Verdict::Unknown),
        ];
        assert_eq!(verdicts, expected);
    }

    #[test]
    fn events_2_15_a_refused_message_is_never_confirmed() {
        let mut confirms = Confirms::default();
        let nack = |returned: Option<&str>| {
            ("a".to_owned(), Told::Nack(returned.map(str::to_owned)), "a".to_owned())
        };
        for (told, verdict) in [
            (nack(None), Verdict::Refused),
            (nack(Some("b")), Verdict::Refused),
            (nack(Some("a")), Verdict::Returned),
        ] {
            assert_eq!(judge(&mut confirms, vec![told]), [("a".into(), verdict)]);
        }
        confirms.clear();
        assert_eq!(judge(&mut confirms, vec![ack("b", None)]), [("b".into(), Verdict::Confirmed)]);
    }
}
