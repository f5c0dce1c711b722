//! The snapshots of a repository.

use std::future::Future;

use buttress::{Codec, CodecError, Format, StoreError, StoreErrorKind};

use super::Repository;
use crate::answer::Answer;
use crate::causes::WithCauses;
use crate::event_store::aggregate::{Aggregate, Failed, Loaded};
use crate::event_store::batch::Appended;
use crate::event_store::recorded::Snapshot;
use crate::event_store::store::Store;
use crate::event_store::stream::StreamId;

/// When snapshots are saved, and how they are encoded.
pub(super) struct Snapshots<A, C> {
    pub every: u64,
    pub schema: u32,
    pub encode: fn(&C, &A) -> Result<Vec<u8>, CodecError>,
    pub decode: fn(&C, &Vec<u8>) -> Result<A, CodecError>,
}

impl<A, C> Clone for Snapshots<A, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A, C> Copy for Snapshots<A, C> {}

impl<A, St, C> Repository<A, St, C>
where
    A: Aggregate,
    St: Store,
    C: Codec<A::Event> + Format<Encoded = Vec<u8>>,
{
    /// Saves a snapshot of an aggregate. Does nothing without [`snapshots`](Self::snapshots).
    ///
    /// # Errors
    /// The future returns the error of the codec as `Invalid`, and the errors of the store. The caller may ignore them: a
    /// load then reads more events.
    pub fn save_snapshot(
        &self,
        id: &str,
        loaded: &Loaded<A>,
    ) -> impl Future<Output = Answer<()>> + Send + use<'_, A, St, C> {
        // Encoded before the future is polled: the state need not be `Sync`.
        let encode = |snapshots| self.snapshot(snapshots, self.stream(id), loaded);
        let snapshot = self.snapshots.as_ref().map(encode).transpose();
        async move {
            match snapshot? {
                Some(snapshot) => self.log.store().save_snapshot(&snapshot).await,
                None => Ok(()),
            }
        }
    }

    fn snapshot(
        &self,
        snapshots: &Snapshots<A, C>,
        stream: StreamId,
        loaded: &Loaded<A>,
    ) -> Answer<Snapshot> {
        let data = (snapshots.encode)(&self.decoder.codec, &loaded.state).map_err(|error| {
            StoreError::invalid(format!("stream {stream}: cannot encode the snapshot"))
                .with_source(error)
        })?;
        Ok(Snapshot::new(stream, loaded.version, snapshots.schema, data))
    }

    /// Returns the snapshot to save, if an append took the stream past a multiple of the configured number.
    pub(super) fn snapshot_after(
        &self,
        stream: &StreamId,
        loaded: &Loaded<A>,
        appended: Appended,
    ) -> Option<Answer<Snapshot>> {
        let snapshots = self.snapshots.as_ref()?;
        let before = appended.first.get().saturating_sub(1);
        let is_due = before / snapshots.every != appended.last.get() / snapshots.every;
        is_due.then(|| self.snapshot(snapshots, stream.clone(), loaded))
    }

    /// Saves a snapshot. A failure is logged only, because the events are written.
    pub(super) async fn save(&self, snapshot: Answer<Snapshot>) {
        let saved = match snapshot {
            Ok(snapshot) => self.log.store().save_snapshot(&snapshot).await,
            Err(error) => Err(error),
        };
        if let Err(error) = saved {
            tracing::warn!(target: "buttress", error = %WithCauses(&error), "a snapshot was not saved");
        }
    }

    /// Returns the state of a snapshot, or the state before the first event if the snapshot is of no use.
    pub(super) fn start_from(
        &self,
        snapshots: &Snapshots<A, C>,
        stream: &StreamId,
        found: Answer<Option<Snapshot>>,
    ) -> Result<Loaded<A>, Failed<A::Error>> {
        let error = match found {
            Ok(None) => return Ok(Loaded::start()),
            Ok(Some(snapshot)) if snapshot.schema != snapshots.schema => {
                return Ok(Loaded::start());
            }
            Ok(Some(snapshot)) => {
                let version = snapshot.version;
                match (snapshots.decode)(&self.decoder.codec, &snapshot.data) {
                    Ok(state) => return Ok(Loaded { state, version, events: Vec::new() }),
                    Err(error) => error.to_string(),
                }
            }
            Err(error) if error.kind() == StoreErrorKind::Corrupt => error.to_string(),
            Err(error) => return Err(error.into()),
        };
        tracing::warn!(
            target: "buttress", %stream, error,
            "a snapshot cannot be read; the events are read instead"
        );
        Ok(Loaded::start())
    }
}
