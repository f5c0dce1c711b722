//! [`Loan`]: a connection that goes back to its pool only if all went well.

use std::ops::{Deref, DerefMut};

use sqlx::Postgres;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgConnection;

/// A connection on which an operation is under way. Dropped in the middle of it, by an error, a time
/// limit, or a caller who went away, it is closed: nobody knows in what state it is, and a server that
/// hangs would hold its place in the pool.
pub(super) struct Loan {
    /// Emptied when the loan ends, not before.
    connection: Option<PoolConnection<Postgres>>,
}

impl Loan {
    pub(super) const fn new(connection: PoolConnection<Postgres>) -> Self {
        Self { connection: Some(connection) }
    }

    /// Gives the connection back: the operation is over.
    pub(super) fn give_back(mut self) {
        drop(self.connection.take());
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            drop(connection.detach());
        }
    }
}

const EMPTIED: &str = "a loan has its connection until it ends";

impl Deref for Loan {
    type Target = PgConnection;

    #[expect(clippy::expect_used, reason = "only what ends the loan empties it")]
    fn deref(&self) -> &PgConnection {
        self.connection.as_ref().expect(EMPTIED)
    }
}

impl DerefMut for Loan {
    #[expect(clippy::expect_used, reason = "only what ends the loan empties it")]
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect(EMPTIED)
    }
}
