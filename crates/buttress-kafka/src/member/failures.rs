//! Failures of the client, and which of them are reported to the consumer.

use buttress::StoreError;

use super::Member;
use crate::client::{Code, Error};

impl Member {
    /// Reports a failure to the consumer, once until messages come again.
    pub(super) fn failed(&mut self, error: Error) {
        let code = error.code();
        // The client continues with the other brokers, and reports an error if there is none.
        let passes = matches!(code, Some(Code::BrokerTransportFailure | Code::Resolve));
        if passes || (self.trouble == code && code.is_some()) {
            return;
        }
        self.trouble = code;
        let why = format!("the topic `{}`: receiving", self.topic);
        let failure = match code {
            Some(
                Code::Authentication
                | Code::Ssl
                | Code::SaslAuthenticationFailed
                | Code::UnsupportedSASLMechanism
                | Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::UnknownTopic
                | Code::UnknownTopicOrPartition
                | Code::InvalidTopic
                | Code::InvalidGroupId
                | Code::InvalidSessionTimeout
                | Code::InconsistentGroupProtocol
                | Code::UnsupportedVersion
                | Code::UnsupportedFeature,
            ) => StoreError::misconfigured(why),
            _ if error.is_fatal() => StoreError::misconfigured(why),
            _ => StoreError::transient(why),
        };
        self.shared.pending().failure = Some(failure.with_source(error));
        self.shared.notify();
    }
}
