//! Reads which argument of a declaration differs from the server's value. `error.rs` has the text for the user.

/// A declaration whose argument differs on the server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Mismatch {
    /// The setting, or the argument as RabbitMQ names it.
    pub argument: String,
    pub wanted: String,
    pub found: String,
}

impl Mismatch {
    /// Reads `PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received none but
    /// current is the value 'quorum' of type 'longstr'`. The server cuts its text off after 255 bytes.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let (_, rest) = text.split_once("inequivalent arg '")?;
        let (argument, rest) = rest.split_once('\'')?;
        let values = rest.split_once("received ").map_or("", |(_, values)| values);
        let (wanted, found) = values.split_once(" but current is ").unwrap_or((values, ""));
        Some(Self { argument: setting(argument), wanted: value(wanted), found: value(found) })
    }
}

/// Returns the setting that an argument comes from.
fn setting(argument: &str) -> String {
    let setting = match argument {
        // The exchange that records the number of shards has it in the name of an alternate exchange.
        "alternate-exchange" => "shards",
        "x-delivery-limit" => "delivery-limit",
        "x-max-length-bytes" => "max-bytes",
        "x-message-ttl" => "retry-after",
        other => other,
    };
    setting.to_owned()
}

/// Returns the text between the first two quotes, or the first word.
fn value(text: &str) -> String {
    let quoted = text.split_once('\'').and_then(|(_, rest)| rest.split_once('\''));
    let value =
        quoted.map_or_else(|| text.split(' ').next().unwrap_or_default(), |(value, _)| value);
    let value = value.rsplit_once(".shards.").map_or(value, |(_, shards)| shards);
    if value.is_empty() { "another value".to_owned() } else { value.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_2_12_the_argument_and_both_values_are_read() {
        let mismatch = |argument: &str, wanted: &str, found: &str| {
            let [argument, wanted, found] = [argument, wanted, found].map(str::to_owned);
            Some(Mismatch { argument, wanted, found })
        };
        let text = "PRECONDITION_FAILED - inequivalent arg 'x-delivery-limit' for queue 'a.b.0' in vhost '/': \
            received the value '5' of type 'signedint' but current is the value '6' of type 'signedint'";
        assert_eq!(Mismatch::read(text), mismatch("delivery-limit", "5", "6"));
        let text = "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'a.b.0' in vhost '/': \
            received the value 'quorum' of type 'longstr' but current is none";
        assert_eq!(Mismatch::read(text), mismatch("x-queue-type", "quorum", "none"));
        let text = "PRECONDITION_FAILED - inequivalent arg 'durable' for exchange 'a' in vhost '/': \
            received 'true' but current is 'false'";
        assert_eq!(Mismatch::read(text), mismatch("durable", "true", "false"));
        let text = "PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' for exchange 'a.shards' in vhost '/': \
            received the value 'a.shards.16' of type 'longstr' but current is the value 'a.shards.8' of type 'longstr'";
        assert_eq!(Mismatch::read(text), mismatch("shards", "16", "8"));
    }

    #[test]
    fn a_text_that_was_cut_off_still_names_the_argument() {
        let cut =
            Mismatch::read("inequivalent arg 'x-message-ttl' for queue 'a' in vhost '/': rece");
        let cut = cut.map(|cut| (cut.argument, cut.wanted, cut.found));
        let unknown = "another value".to_owned();
        assert_eq!(cut, Some(("retry-after".to_owned(), unknown.clone(), unknown)));
        assert_eq!(Mismatch::read("PRECONDITION_FAILED - unknown delivery tag 7"), None);
    }
}
