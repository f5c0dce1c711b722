//! The counters of a consumer.

/// The counters of a consumer, since it was created.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Stats {
    /// Messages that the transport delivered, without messages that the consumer held already.
    pub received: u64,
    /// Messages that were delivered again while they were held.
    pub joined: u64,
    /// Messages whose handler succeeded.
    pub handled: u64,
    /// Attempts that failed and are repeated.
    pub retried: u64,
    /// Messages that became dead letters.
    pub dead: u64,
    /// Dead letters that were claimed for a replay.
    pub replayed: u64,
    /// Dead letters that a replay has found and left in the store: another replay had their key, or an earlier letter of
    /// their key was left out, lost, or failed again with [`OnDead::Park`](super::OnDead::Park).
    pub left_out: u64,
    /// Messages that were returned to the transport unhandled.
    pub returned: u64,
    /// Messages that were forgotten because another consumer owns their shard.
    pub revoked: u64,
    /// Settled messages whose token was not valid any more, and replayed letters that another consumer has claimed.
    /// They are handled again.
    pub late: u64,
    /// Messages that the transport has lost.
    pub lost: u64,
    /// Operations of the transport and of the dead letters that failed.
    pub failed_operations: u64,
    /// Handlers that run now.
    pub running: u64,
    /// Messages that the consumer holds now.
    pub held: u64,
}
