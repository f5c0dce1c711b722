//! [`Loan`]: a connection that is used again only after a successful operation.

use std::ops::{Deref, DerefMut};

use buttress::StoreError;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgConnection;
use sqlx::{Executor as _, Postgres};

use super::lender::Session;
use crate::error::during;

/// A connection with an operation in progress. If it is dropped before the end, the connection is
/// closed, which rolls its transaction back. An error, a time limit or a caller that disappeared
/// may cause that. The state of the connection is then unknown, and a server that hangs would keep
/// its place.
pub(super) struct Loan {
    /// Emptied when the loan ends.
    taken: Option<Taken>,
    /// Whether a transaction is open.
    begun: bool,
}

/// The place to which the connection returns.
pub(super) enum Taken {
    Session(Session),
    Pooled(PoolConnection<Postgres>),
}

impl Loan {
    pub(super) const fn new(taken: Taken) -> Self {
        Self { taken: Some(taken), begun: false }
    }

    /// Records that a transaction was begun.
    pub(super) const fn has_begun(&mut self) {
        self.begun = true;
    }

    /// Begins a transaction, unless one is open.
    pub(super) async fn begin(&mut self) -> sqlx::Result<Begun<'_>> {
        if !self.begun {
            self.execute("BEGIN").await?;
            self.begun = true;
        }
        Ok(Begun { loan: self })
    }

    /// Ends the loan after its operation, and returns the connection. Commits an open transaction.
    pub(super) async fn finish(mut self) -> Result<(), StoreError> {
        if self.begun {
            self.end("COMMIT").await.map_err(during("committing"))?;
        }
        match self.taken.take() {
            Some(Taken::Session(session)) => session.release(),
            Some(Taken::Pooled(connection)) => drop(connection),
            None => {}
        }
        Ok(())
    }

    async fn end(&mut self, how: &'static str) -> sqlx::Result<()> {
        self.execute(how).await?;
        self.begun = false;
        Ok(())
    }
}

/// The transaction of a [`Loan`]. Without an end it is rolled back with the connection.
pub(super) struct Begun<'l> {
    loan: &'l mut Loan,
}

impl Begun<'_> {
    pub(super) async fn commit(self) -> sqlx::Result<()> {
        self.loan.end("COMMIT").await
    }

    pub(super) async fn rollback(self) -> sqlx::Result<()> {
        self.loan.end("ROLLBACK").await
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if let Some(Taken::Pooled(connection)) = self.taken.take() {
            drop(connection.detach());
        }
    }
}

const EMPTIED: &str = "a loan has its connection until it ends";

impl Deref for Loan {
    type Target = PgConnection;

    #[expect(clippy::expect_used, reason = "only what ends the loan empties it")]
    fn deref(&self) -> &PgConnection {
        match self.taken.as_ref().expect(EMPTIED) {
            Taken::Session(session) => &session.connection,
            Taken::Pooled(connection) => connection,
        }
    }
}

impl DerefMut for Loan {
    #[expect(clippy::expect_used, reason = "only what ends the loan empties it")]
    fn deref_mut(&mut self) -> &mut PgConnection {
        match self.taken.as_mut().expect(EMPTIED) {
            Taken::Session(session) => &mut session.connection,
            Taken::Pooled(connection) => connection,
        }
    }
}

impl Deref for Begun<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.loan
    }
}

impl DerefMut for Begun<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.loan
    }
}
