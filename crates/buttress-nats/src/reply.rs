//! [`Reply`]: the facts about a message in the subject of its acknowledgement.

/// The position of a message, and how many times it was delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Reply {
    /// The position in the stream.
    pub sequence: u64,
    /// The number of this delivery. The first is 1.
    pub delivered: u64,
    /// When the stream took the message, in nanoseconds. With the position it names one message, also after the stream
    /// was deleted and created again.
    pub time: u64,
}

impl Reply {
    /// Reads `$JS.ACK.stream.consumer.delivered.sequence.consumer-sequence.time.pending`, or the longer form
    /// `$JS.ACK.domain.account.stream...` of later servers.
    pub(crate) fn parse(subject: &str) -> Option<Self> {
        let rest = subject.strip_prefix("$JS.ACK.")?;
        let tokens: Vec<&str> = rest.split('.').collect();
        let skip = match tokens.len() {
            7 => 0,
            9.. => 2,
            _ => return None,
        };
        let number = |at: usize| tokens.get(skip + at)?.parse().ok();
        Some(Self { delivered: number(2)?, sequence: number(3)?, time: number(5)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_reply_subject_are_read() {
        let time = 1_700_000_000_000_000_000;
        let expected = Some(Reply { sequence: 42, delivered: 3, time });
        assert_eq!(
            Reply::parse("$JS.ACK.orders.billing-0.3.42.7.1700000000000000000.12"),
            expected
        );
        assert_eq!(
            Reply::parse("$JS.ACK._.hash.orders.billing-0.3.42.7.1700000000000000000.12"),
            expected
        );
        assert_eq!(
            Reply::parse("$JS.ACK.hub.hash.orders.billing-0.3.42.7.1700000000000000000.12.token"),
            expected
        );
        for other in
            ["", "_INBOX.x", "$JS.ACK.orders", "$JS.ACK.a.b.c.d.e.f.g", "$JS.ACK.a.b.1.2.3.4.5.6"]
        {
            assert_eq!(Reply::parse(other), None, "{other}");
        }
    }
}
