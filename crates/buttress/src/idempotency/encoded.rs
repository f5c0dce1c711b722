//! [`Encoded`]: adapts a store of bytes to typed values.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::key::{Fingerprint, Key};
use super::store::{ClaimId, Claimed, CompleteIn, Size, Store};
use crate::vocabulary::codec::{Codec, CodecError, Format};
use crate::vocabulary::store_error::StoreError;

/// Store of typed values over a store of bytes (SQLite, PostgreSQL), encoded by `C`.
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

    fn encode<V>(&self, key: &Key, value: V) -> Result<Vec<u8>, StoreError>
    where
        C: Codec<V, Encoded = Vec<u8>>,
    {
        let wrong = |error: CodecError| {
            StoreError::invalid(format!("the result of key `{key}` cannot be encoded"))
                .with_source(error)
        };
        self.codec.encode(&Arc::new(value)).map_err(wrong)
    }

    fn decode<V: Clone>(&self, key: &Key, bytes: &Vec<u8>) -> Result<V, StoreError>
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
    async fn claim(
        &self,
        key: &Key,
        claim: ClaimId,
        fingerprint: Option<Fingerprint>,
        lease: Duration,
    ) -> Result<Claimed<V>, StoreError> {
        Ok(match self.store.claim(key, claim, fingerprint, lease).await? {
            Claimed::Done(bytes) => Claimed::Done(self.decode(key, &bytes)?),
            Claimed::Owned => Claimed::Owned,
            Claimed::InFlight { lease_left } => Claimed::InFlight { lease_left },
            Claimed::NotKept => Claimed::NotKept,
            Claimed::Mismatch => Claimed::Mismatch,
        })
    }

    fn renew_claim(
        &self,
        key: &Key,
        claim: ClaimId,
        lease: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        self.store.renew_claim(key, claim, lease)
    }

    async fn complete(
        &self,
        key: &Key,
        claim: ClaimId,
        value: V,
        lifetime: Duration,
    ) -> Result<(), StoreError> {
        let bytes = self.encode(key, value)?;
        self.store.complete(key, claim, bytes, lifetime).await
    }

    fn complete_without_result(
        &self,
        key: &Key,
        claim: ClaimId,
        lifetime: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        self.store.complete_without_result(key, claim, lifetime)
    }

    fn release_claim(
        &self,
        key: &Key,
        claim: ClaimId,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        self.store.release_claim(key, claim)
    }

    async fn outcome(&self, key: &Key, claim: ClaimId) -> Result<Option<V>, StoreError> {
        let bytes = self.store.outcome(key, claim).await?;
        bytes.map(|bytes| self.decode(key, &bytes)).transpose()
    }

    fn sweep_expired(
        &self,
        limit: usize,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send {
        self.store.sweep_expired(limit)
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
    async fn complete_in(
        &self,
        tx: &mut Tx,
        key: &Key,
        claim: ClaimId,
        value: &V,
        lifetime: Duration,
    ) -> Result<(), StoreError> {
        let bytes = self.encode(key, value.clone())?;
        self.store.complete_in(tx, key, claim, &bytes, lifetime).await
    }
}
