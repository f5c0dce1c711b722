//! [`Error`]: an error of the client or the brokers, and its [`Code`].

use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

/// An error of the client or the brokers. It has the text and the causes of the client's error.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct Error(#[from] KafkaError);

impl Error {
    /// Creates the error about a client that ended before it answered.
    pub(crate) const fn ended() -> Self {
        Self(KafkaError::Canceled)
    }

    /// Returns the code. `None` if the client gives none, e.g. for an answer to the creation of a topic.
    pub(crate) fn code(&self) -> Option<Code> {
        self.0.rdkafka_error_code().map(Code::from)
    }

    /// Returns `true` if a consumer can receive nothing more.
    pub(crate) const fn is_fatal(&self) -> bool {
        matches!(self.0, KafkaError::MessageConsumptionFatal(_))
    }

    /// Returns the property that the client refused, its value, and the reason.
    pub(crate) fn property(&self) -> Option<(&str, &str, &str)> {
        match &self.0 {
            KafkaError::ClientConfig(_, why, property, value) => Some((property, value, why)),
            _ => None,
        }
    }
}

/// Makes the enum and its conversion from one list.
macro_rules! codes {
    ($($name:ident)+) => {
        /// What an error is about: the codes that this crate decides by.
        ///
        /// Most come from the brokers, under their names in the protocol. The client has found the others itself.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum Code {
            $($name,)+
            Ssl,
            /// Any other code, as a number.
            Other(i32),
        }

        impl From<RDKafkaErrorCode> for Code {
            fn from(code: RDKafkaErrorCode) -> Self {
                match code {
                    $(RDKafkaErrorCode::$name => Self::$name,)+
                    RDKafkaErrorCode::SSL => Self::Ssl,
                    other => Self::Other(other as i32),
                }
            }
        }
    };
}

codes! {
    AllBrokersDown Authentication AutoOffsetReset BrokerTransportFailure ClusterAuthorizationFailed
    CoordinatorLoadInProgress CoordinatorNotAvailable FencedInstanceId GroupAuthorizationFailed
    IllegalGeneration InconsistentGroupProtocol InvalidGroupId InvalidMessage InvalidMessageSize
    InvalidProducerEpoch InvalidProducerIdMapping InvalidRecord InvalidSessionTimeout
    InvalidTimestamp InvalidTopic LeaderNotAvailable MessageBatchTooLarge MessageSizeTooLarge
    NotCoordinator OperationTimedOut OutOfOrderSequenceNumber PolicyViolation ProducerFenced
    QueueFull RebalanceInProgress RequestTimedOut Resolve SaslAuthenticationFailed TimedOutQueue
    TopicAuthorizationFailed UnknownMemberId UnknownPartition UnknownProducerId UnknownTopic
    UnknownTopicOrPartition UnsupportedFeature UnsupportedSASLMechanism UnsupportedVersion
    WaitingForCoordinator
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn an_error_keeps_its_code_its_text_and_its_cause() {
        let refused = Error::from(KafkaError::ConsumerCommit(RDKafkaErrorCode::IllegalGeneration));
        assert_eq!(refused.code(), Some(Code::IllegalGeneration));
        assert!(refused.to_string().starts_with("Consumer commit error: "), "{refused}");
        let cause = refused.source().unwrap().to_string();
        assert!(cause.starts_with("IllegalGeneration"), "{cause}");
        // Two unlisted codes stay different: a member reports an error again if its code has changed.
        let [first, second] = [RDKafkaErrorCode::BadCompression, RDKafkaErrorCode::Fail]
            .map(|code| Error::from(KafkaError::MessageConsumption(code)).code());
        assert!(matches!(first, Some(Code::Other(_))), "{first:?}");
        assert_ne!(first, second);
        assert_eq!(Error::ended().code(), None);
        assert!(
            Error::from(KafkaError::MessageConsumptionFatal(RDKafkaErrorCode::Fatal)).is_fatal()
        );
    }
}
