//! The errors of sqlx and of the databases as errors of a store.

use buttress::{StoreError, StoreErrorKind};
use sqlx::error::{DatabaseError, ErrorKind};

/// Returns the error of an operation called `what`, with its source.
pub(crate) fn failed(what: &str, error: sqlx::Error) -> StoreError {
    StoreError::new(kind(&error), format!("{what}: {error}")).with_source(error)
}

/// Adds the file to an error that an operator must fix: SQLite's own texts do not name it.
#[cfg(feature = "sqlite")]
pub(crate) fn at_file(path: &std::path::Path, error: StoreError) -> StoreError {
    let named = error.to_string().contains(&path.display().to_string());
    match error.is_misconfigured() && !named {
        true => error.context(format_args!("file {}", path.display())),
        false => error,
    }
}

/// Returns [`failed`] as a function for `map_err`.
pub(crate) fn during(what: &str) -> impl Fn(sqlx::Error) -> StoreError + Copy + '_ {
    move |error| failed(what, error)
}

/// Returns the error of a batch. `Invalid` if the database refuses an operation in the batch; the
/// operations are then repeated one by one. `Misconfigured` if an operator must fix something
/// first. Otherwise the whole batch may be repeated.
pub(crate) fn batch_failed(what: &str, error: sqlx::Error) -> StoreError {
    let kind = match kind(&error) {
        kind @ (StoreErrorKind::Misconfigured | StoreErrorKind::Invalid) => kind,
        _ => StoreErrorKind::Transient,
    };
    StoreError::new(kind, format!("{what}: {error}")).with_source(error)
}

/// Returns the error of an operation that reached its time limit.
pub(crate) fn too_slow(what: &str, limit: std::time::Duration) -> StoreError {
    StoreError::transient(format!("{what}: no answer within {limit:?}"))
}

/// Returns `true` if an error, or one of its causes, is an error of the database that may pass.
#[cfg(feature = "events")]
pub(crate) fn is_outage(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<StoreError>() {
            return error.may_pass();
        }
        if let Some(error) = error.downcast_ref::<sqlx::Error>() {
            return is_unavailable(error);
        }
        next = error.source();
    }
    false
}

/// Returns `true` if the statement failed because of the state of the database or of the connection, and not because of
/// the statement. Unlike [`kind`], an error that is not known counts as one of the statement: it is not from a store.
#[cfg(feature = "events")]
fn is_unavailable(error: &sqlx::Error) -> bool {
    use sqlx::Error;
    let error = match error {
        Error::Io(_)
        | Error::Tls(_)
        | Error::Protocol(_)
        | Error::PoolTimedOut
        | Error::PoolClosed
        | Error::WorkerCrashed => return true,
        Error::Database(error) => error,
        _ => return false,
    };
    let code = error.code();
    let code = code.as_deref().unwrap_or_default();
    #[cfg(feature = "postgres")]
    if error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some() {
        return is_outage_of_postgres(code);
    }
    // SQLITE_BUSY, SQLITE_LOCKED, SQLITE_IOERR, SQLITE_FULL.
    matches!(code.parse::<u32>().map(|code| code & 0xff), Ok(5 | 6 | 10 | 13))
}

/// Connections, rolled back transactions, resources, locks, operators, and errors of the system. A statement that took too
/// long (57014) is none. A server that has failed over may be read-only (25006).
#[cfg(all(feature = "events", feature = "postgres"))]
fn is_outage_of_postgres(code: &str) -> bool {
    let is_class = ["08", "40", "53", "55", "57", "58"].iter().any(|class| code.starts_with(class));
    code == "25006" || (is_class && code != "57014")
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
        // The rest passes: Io, Tls, PoolTimedOut, PoolClosed, WorkerCrashed, Protocol.
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
    of_sqlite(code, error.message())
}

/// Full (13), busy (5), locked (6), I/O (10) and other momentary errors pass. The primary code is
/// the low byte of the extended one.
fn of_sqlite(code: &str, message: &str) -> StoreErrorKind {
    match code.parse::<u32>().map(|code| code & 0xff) {
        // SQLite has no separate code for a missing table or column.
        Ok(1)
            if ["no such table", "no such column", "has no column named"]
                .iter()
                .any(|missing| message.contains(missing)) =>
        {
            StoreErrorKind::Misconfigured
        }
        // SQLITE_ERROR, SQLITE_CORRUPT, SQLITE_NOTADB.
        Ok(1 | 11 | 26) => StoreErrorKind::Corrupt,
        // SQLITE_PERM, SQLITE_READONLY, SQLITE_CANTOPEN, SQLITE_AUTH.
        Ok(3 | 8 | 14 | 23) => StoreErrorKind::Misconfigured,
        // SQLITE_TOOBIG, SQLITE_CONSTRAINT (a trigger's RAISE too), SQLITE_MISMATCH.
        Ok(18..=20) => StoreErrorKind::Invalid,
        _ => StoreErrorKind::Transient,
    }
}

#[cfg(feature = "postgres")]
fn of_postgres(code: &str) -> StoreErrorKind {
    match code {
        // No such database, no such schema, a right is missing.
        "3D000" | "3F000" | "42501" => StoreErrorKind::Misconfigured,
        // Undefined table, column, function: dropped, or of another release.
        "42P01" | "42703" | "42883" => StoreErrorKind::Misconfigured,
        // No such role, wrong password, no access from this host.
        _ if code.starts_with("28") => StoreErrorKind::Misconfigured,
        // Data or index damaged.
        "XX001" | "XX002" => StoreErrorKind::Corrupt,
        // Data exceptions, violated constraints, a trigger's RAISE, exceeded limits of the program.
        _ if ["22", "23", "44", "P0", "54"].iter().any(|class| code.starts_with(class)) => {
            StoreErrorKind::Invalid
        }
        _ => StoreErrorKind::Transient,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_and_what_does_not() {
        for code in ["5", "6", "10", "13", "517", "3338", ""] {
            assert_eq!(of_sqlite(code, "text"), StoreErrorKind::Transient, "{code}");
        }
        for code in ["3", "8", "14", "23", "270", "1032", "1544"] {
            assert_eq!(of_sqlite(code, "text"), StoreErrorKind::Misconfigured, "{code}");
        }
        assert_eq!(of_sqlite("11", "text"), StoreErrorKind::Corrupt);
        for code in ["18", "19", "20", "1811"] {
            assert_eq!(of_sqlite(code, "text"), StoreErrorKind::Invalid, "{code}");
        }
        assert_eq!(of_sqlite("1", "malformed JSON"), StoreErrorKind::Corrupt);
        for text in ["no such table: t", "no such column: c", "table t has no column named c"] {
            assert_eq!(of_sqlite("1", text), StoreErrorKind::Misconfigured, "{text}");
        }
        assert_eq!(kind(&sqlx::Error::PoolTimedOut), StoreErrorKind::Transient);
    }

    #[cfg(all(feature = "events", feature = "postgres"))]
    #[test]
    fn what_is_an_outage_for_a_handler() {
        for code in ["08006", "40P01", "40001", "53300", "55P03", "57P01", "58030", "25006"] {
            assert!(is_outage_of_postgres(code), "{code}");
        }
        for code in ["57014", "42601", "23505", "25P02", "22003", ""] {
            assert!(!is_outage_of_postgres(code), "{code}");
        }
        assert!(is_outage(&sqlx::Error::PoolTimedOut));
        assert!(!is_outage(&sqlx::Error::RowNotFound), "an error of the handler");
        assert!(is_outage(&StoreError::transient("away")));
        assert!(!is_outage(&StoreError::invalid("no")));
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn what_passes_on_postgres() {
        // Deadlock, serialization, too many connections, disk full, shutdown, read-only, lock timeout.
        for code in ["40P01", "40001", "53300", "53100", "57P01", "57P03", "25006", "55P03"] {
            assert_eq!(of_postgres(code), StoreErrorKind::Transient, "{code}");
        }
        for code in ["28000", "28P01", "3D000", "3F000", "42501", "42P01", "42703", "42883"] {
            assert_eq!(of_postgres(code), StoreErrorKind::Misconfigured, "{code}");
        }
        assert_eq!(of_postgres("XX001"), StoreErrorKind::Corrupt);
        for code in ["22021", "23514", "44000", "P0001", "54000"] {
            assert_eq!(of_postgres(code), StoreErrorKind::Invalid, "{code}");
        }
    }
}
