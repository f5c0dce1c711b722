//! [`Mode`]: where a projection writes its checkpoint.

use std::future::Future;

use crate::answer::Answer;
use crate::event_store::checkpoint::{Advance, Swap};
use crate::event_store::store::{Begin, Checkpoint, Store};

/// Where a projection writes its checkpoint: [`Separate`] or [`InTransaction`]. Sealed.
pub trait Mode<St>: sealed::Sealed + Send + Sync + 'static {
    /// The transaction that a handler gets.
    type Tx: Send + 'static;

    #[doc(hidden)]
    const IS_ONE_TRANSACTION: bool;

    #[doc(hidden)]
    fn begin(store: &St) -> impl Future<Output = Answer<Self::Tx>> + Send;

    #[doc(hidden)]
    fn advance(
        store: &St,
        tx: &mut Self::Tx,
        advance: &Advance,
    ) -> impl Future<Output = Answer<()>> + Send;

    #[doc(hidden)]
    fn swap(store: &St, tx: &mut Self::Tx, swap: &Swap) -> impl Future<Output = Answer<()>> + Send;

    #[doc(hidden)]
    fn commit(store: &St, tx: Self::Tx) -> impl Future<Output = Answer<()>> + Send;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Separate {}
    impl Sealed for super::InTransaction {}
}

/// The checkpoint is written in a transaction of the store, after the handler. After a crash between both, the handler
/// gets the batch again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Separate;

/// The checkpoint is written in the transaction of the handler. Each event takes effect once.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct InTransaction;

impl<St: Store> Mode<St> for Separate {
    type Tx = ();

    const IS_ONE_TRANSACTION: bool = false;

    async fn begin(_: &St) -> Answer<()> {
        Ok(())
    }

    async fn advance(store: &St, (): &mut (), advance: &Advance) -> Answer<()> {
        store.advance_projection(advance).await
    }

    async fn swap(store: &St, (): &mut (), swap: &Swap) -> Answer<()> {
        store.swap_projection(swap).await
    }

    async fn commit(_: &St, (): ()) -> Answer<()> {
        Ok(())
    }
}

impl<St: Begin + Checkpoint<St::Tx>> Mode<St> for InTransaction {
    type Tx = St::Tx;

    const IS_ONE_TRANSACTION: bool = true;

    async fn begin(store: &St) -> Answer<St::Tx> {
        store.begin_transaction().await
    }

    async fn advance(store: &St, tx: &mut St::Tx, advance: &Advance) -> Answer<()> {
        store.advance_in(tx, advance).await
    }

    async fn swap(store: &St, tx: &mut St::Tx, swap: &Swap) -> Answer<()> {
        store.swap_in(tx, swap).await
    }

    async fn commit(store: &St, tx: St::Tx) -> Answer<()> {
        store.commit_transaction(tx).await
    }
}
