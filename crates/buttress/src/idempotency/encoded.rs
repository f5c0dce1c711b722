//! [`Encoded`]: adapts a store of bytes to typed values.

use std::sync::Arc;
use std::time::Duration;

use super::key::Key;
use super::store::{Claimed, CompleteIn, Completion, KeyClaim, Size, Store};
use crate::vocabulary::codec::{Codec, CodecError, Format};
use crate::vocabulary::store_error::{Answer, StoreError};

/// A store of typed values over a store of bytes (SQLite, PostgreSQL), encoded by `C`.
///
/// A value that cannot be encoded is an `Invalid` store error. The layer then keeps the key done
/// [without a result](Store::complete_without_result). A stored value that cannot be decoded,
/// because it has another format or version, is a `Corrupt` error.
#[derive(Clone, Copy, Debug)]
pub struct Encoded<St, C> {
    store: St,
    codec: C,
}

impl<St, C> Encoded<St, C> {
    /// Creates a store of typed values over `store`, encoded by `codec`.
    pub const fn new(store: St, codec: C) -> Self {
        Self { store, codec }
    }

    /// Returns the inner store of bytes.
    pub const fn store(&self) -> &St {
        &self.store
    }

    fn encode<V>(&self, key: &Key, value: V) -> Answer<Vec<u8>>
    where
        C: Codec<V, Encoded = Vec<u8>>,
    {
        let wrong = |error: CodecError| {
            StoreError::invalid(format!("the result of key `{key}` cannot be encoded"))
                .with_source(error)
        };
        self.codec.encode(&Arc::new(value)).map_err(wrong)
    }

    fn decode<V: Clone>(&self, key: &Key, bytes: &Vec<u8>) -> Answer<V>
    where
        C: Codec<V, Encoded = Vec<u8>>,
    {
        let wrong = |error: CodecError| {
            StoreError::corrupt(format!("the result of key `{key}` cannot be read"))
                .with_source(error)
        };
        self.codec.decode(bytes).map(Arc::unwrap_or_clone).map_err(wrong)
    }
}

impl<V, St, C> Store<V> for Encoded<St, C>
where
    V: Clone + Send + Sync + 'static,
    St: Store<Vec<u8>>,
    C: Codec<V, Encoded = Vec<u8>> + Format<Encoded = Vec<u8>>,
{
    async fn claim(&self, claim: KeyClaim<'_>, lease: Duration) -> Answer<Claimed<V>> {
        Ok(match self.store.claim(claim, lease).await? {
            Claimed::Done(bytes) => Claimed::Done(self.decode(claim.key, &bytes)?),
            Claimed::Owned => Claimed::Owned,
            Claimed::InFlight { lease_left } => Claimed::InFlight { lease_left },
            Claimed::NotKept => Claimed::NotKept,
            Claimed::Mismatch => Claimed::Mismatch,
        })
    }

    async fn renew_claim(&self, claim: KeyClaim<'_>, lease: Duration) -> Answer<()> {
        self.store.renew_claim(claim, lease).await
    }

    async fn complete(&self, claim: KeyClaim<'_>, value: V, lifetime: Duration) -> Answer<()> {
        let bytes = self.encode(claim.key, value)?;
        self.store.complete(claim, bytes, lifetime).await
    }

    async fn complete_without_result(&self, claim: KeyClaim<'_>, lifetime: Duration) -> Answer<()> {
        self.store.complete_without_result(claim, lifetime).await
    }

    async fn release_claim(&self, claim: KeyClaim<'_>) -> Answer<()> {
        self.store.release_claim(claim).await
    }

    async fn outcome(&self, claim: KeyClaim<'_>) -> Answer<Option<V>> {
        let bytes = self.store.outcome(claim).await?;
        bytes.map(|bytes| self.decode(claim.key, &bytes)).transpose()
    }

    async fn sweep_expired(&self, limit: usize) -> Answer<usize> {
        self.store.sweep_expired(limit).await
    }

    fn size(&self) -> Option<Size> {
        self.store.size()
    }
}

impl<Tx, V, St, C> CompleteIn<Tx, V> for Encoded<St, C>
where
    Tx: Send,
    V: Clone + Send + Sync + 'static,
    St: CompleteIn<Tx, Vec<u8>>,
    C: Codec<V, Encoded = Vec<u8>> + Format<Encoded = Vec<u8>>,
{
    async fn complete_in(&self, tx: &mut Tx, completion: Completion<'_, V>) -> Answer<()> {
        let Completion { claim, value, lifetime } = completion;
        let bytes = self.encode(claim.key, value.clone())?;
        self.store.complete_in(tx, Completion::new(claim, &bytes, lifetime)).await
    }
}
