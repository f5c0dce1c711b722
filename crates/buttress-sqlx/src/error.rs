//! What errors of sqlx and of the databases mean to the caller of a store.

use buttress::{StoreError, StoreErrorKind};
use sqlx::error::{DatabaseError, ErrorKind};

/// The error of an operation called `what`, with its source.
pub(crate) fn failed(what: &str, error: sqlx::Error) -> StoreError {
    StoreError::new(kind(&error), format!("{what}: {error}")).with_source(error)
}

/// [`failed`], for `map_err`.
pub(crate) fn during(what: &str) -> impl Fn(sqlx::Error) -> StoreError + Copy + '_ {
    move |error| failed(what, error)
}

/// The error of every waiter of a batch that failed: whatever it was, the batch as a whole may be tried
/// again.
pub(crate) fn batch_failed(what: &str, error: sqlx::Error) -> StoreError {
    StoreError::transient(format!("{what}: {error}")).with_source(error)
}

/// What `what` ran into when its time was up.
pub(crate) fn too_slow(what: &str, limit: std::time::Duration) -> StoreError {
    StoreError::transient(format!("{what}: no answer within {limit:?}"))
}

fn kind(error: &sqlx::Error) -> StoreErrorKind {
    match error {
        sqlx::Error::Database(error) => of_database(error.as_ref()),
        sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Decode(_)
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::ColumnIndexOutOfBounds { .. }
        | sqlx::Error::TypeNotFound { .. } => StoreErrorKind::Corrupt,
        sqlx::Error::Encode(_) => StoreErrorKind::Invalid,
        // Away, slow, or in the middle of something: Io, Tls, PoolTimedOut, PoolClosed, WorkerCrashed,
        // Protocol.
        _ => StoreErrorKind::Transient,
    }
}

fn of_database(error: &dyn DatabaseError) -> StoreErrorKind {
    match error.kind() {
        ErrorKind::UniqueViolation => return StoreErrorKind::Conflict,
        ErrorKind::NotNullViolation | ErrorKind::CheckViolation => return StoreErrorKind::Invalid,
        _ => {}
    }
    let code = error.code();
    let code = code.as_deref().unwrap_or_default();
    #[cfg(feature = "postgres")]
    if error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some() {
        return of_postgres(code);
    }
    of_sqlite(code)
}

/// Full (13), busy (5), locked (6), read-only (8), I/O (10), cannot open (14) and whatever else is about
/// the moment pass. The primary code is the low byte of the extended one.
fn of_sqlite(code: &str) -> StoreErrorKind {
    match code.parse::<u32>().map(|code| code & 0xff) {
        // SQLITE_ERROR: a table or column is missing; SQLITE_CORRUPT; SQLITE_NOTADB.
        Ok(1 | 11 | 26) => StoreErrorKind::Corrupt,
        // SQLITE_TOOBIG, SQLITE_MISMATCH.
        Ok(18 | 20) => StoreErrorKind::Invalid,
        _ => StoreErrorKind::Transient,
    }
}

#[cfg(feature = "postgres")]
fn of_postgres(code: &str) -> StoreErrorKind {
    match code {
        // Undefined table, column, function, schema; data or index damaged.
        "42P01" | "42703" | "42883" | "3F000" | "XX001" | "XX002" => StoreErrorKind::Corrupt,
        // Data exceptions and exceeded limits of the program.
        _ if code.starts_with("22") || code.starts_with("54") => StoreErrorKind::Invalid,
        _ => StoreErrorKind::Transient,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_and_what_does_not() {
        for code in ["5", "6", "8", "10", "13", "14", "517", "1032", "3338", ""] {
            assert_eq!(of_sqlite(code), StoreErrorKind::Transient, "{code}");
        }
        assert_eq!(of_sqlite("11"), StoreErrorKind::Corrupt);
        assert_eq!(of_sqlite("18"), StoreErrorKind::Invalid);
        assert_eq!(kind(&sqlx::Error::PoolTimedOut), StoreErrorKind::Transient);
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn what_passes_on_postgres() {
        // Deadlock, serialization, too many connections, disk full, shutdown, read-only, lock timeout.
        for code in ["40P01", "40001", "53300", "53100", "57P01", "57P03", "25006", "55P03"] {
            assert_eq!(of_postgres(code), StoreErrorKind::Transient, "{code}");
        }
        assert_eq!(of_postgres("42P01"), StoreErrorKind::Corrupt);
        assert_eq!(of_postgres("22021"), StoreErrorKind::Invalid);
    }
}
