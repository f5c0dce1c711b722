//! [`Sql`]: statements on tables of the schema that the configuration names.

use buttress::Clock;
use sqlx::AssertSqlSafe;

#[cfg(feature = "saga")]
use crate::saga::{ENDED, WAITING, WORKING};
use crate::time::nanos;

/// Turns templates into statements, and returns the time.
#[derive(Clone, Debug)]
pub(super) struct Sql {
    schema: String,
    /// The schema as an identifier, with its dot.
    prefix: String,
    /// Only tests set a clock.
    clock: Option<Clock>,
    /// Whether sessions keep prepared statements.
    keeps: bool,
}

/// A statement of the store, to be sent by the functions of [`rows`](super::rows).
pub(super) struct Statement {
    text: AssertSqlSafe<String>,
    keep: bool,
}

impl Statement {
    /// The text, which may hold several statements without parameters.
    pub(super) fn text(self) -> AssertSqlSafe<String> {
        self.text
    }

    /// The text, and whether the session prepares it once and keeps it.
    pub(super) fn parts(self) -> (AssertSqlSafe<String>, bool) {
        (self.text, self.keep)
    }
}

/// The time of a statement: the database's clock, or a test's. Not `now()`, which is constant in a
/// transaction.
const NOW: &str = "coalesce($1::int8, (extract(epoch FROM clock_timestamp()) * 1000000000)::int8)";

impl Sql {
    pub(super) fn new(schema: &str, clock: Option<Clock>, keeps: bool) -> Self {
        let prefix = format!("\"{}\".", schema.replace('"', "\"\""));
        Self { schema: schema.to_owned(), prefix, clock, keeps }
    }

    /// Returns the statement. The schema replaces `{s}`, the time replaces `{now}`, and the
    /// statuses of sagas replace `{working}` and `{ended}`, and the condition of sagas that wait replaces
    /// `{waiting}`. A caller of a template with `{now}`
    /// binds [`time`](Self::time) first.
    pub(super) fn text(&self, template: &str) -> Statement {
        Statement { text: AssertSqlSafe(self.render(template)), keep: self.keeps }
    }

    /// Returns the text of the statement.
    pub(super) fn render(&self, template: &str) -> String {
        let text = template.replace("{s}", &self.prefix).replace("{now}", NOW);
        #[cfg(feature = "saga")]
        let text =
            text.replace("{working}", &WORKING.to_string()).replace("{ended}", &ENDED.to_string());
        #[cfg(feature = "saga")]
        let text = text.replace("{waiting}", WAITING);
        text
    }

    /// Returns the first parameter of statements with `{now}`: `None` for the database's clock.
    pub(super) fn time(&self) -> Option<i64> {
        self.clock.as_ref().map(|clock| nanos(clock.unix()))
    }

    pub(super) fn schema(&self) -> &str {
        &self.schema
    }

    pub(super) fn quoted_schema(&self) -> &str {
        self.prefix.trim_end_matches('.')
    }

    /// Returns the number of an advisory lock: the FNV-1a digest (64 bits) of the schema, the kind
    /// and the key.
    pub(super) fn lock(&self, what: &str, key: &str) -> i64 {
        let bytes = ["buttress", &self.schema, what, key].join("\u{1f}");
        bytes
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |digest, byte| {
                (digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
            })
            .cast_signed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_cannot_break_out_of_its_quotes() {
        let sql = Sql::new("a\"b", None, true);
        assert_eq!(sql.text("SELECT 1 FROM {s}t").text().0, "SELECT 1 FROM \"a\"\"b\".t");
        assert_eq!(sql.quoted_schema(), "\"a\"\"b\"");
        assert_ne!(sql.lock("key", "a"), Sql::new("public", None, true).lock("key", "a"));
    }
}
