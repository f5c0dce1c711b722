//! [`Values`]: many rows as parameters of one fast statement.

use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{Arguments as _, AssertSqlSafe, Sqlite};

/// The most rows of one statement. More rows take several statements. SQLite allows 32766
/// parameters.
const MOST_ROWS: usize = 128;

/// Rows for a `VALUES` clause. A [`Pack`](super::pack::Pack) needs one text for any number of rows,
/// but SQLite then spends more time on JSON than on the rows.
///
/// Rows of NULL pad the number of rows to a power of two, so that few statements have to be
/// prepared. Each statement must check that its first column is not NULL.
pub(super) struct Values<'v> {
    width: usize,
    cells: Vec<Cell<'v>>,
}

pub(super) enum Cell<'v> {
    Null,
    Int(i64),
    Id(u128),
    Blob(&'v [u8]),
    Text(&'v str),
}

impl<'v> Values<'v> {
    pub(super) const fn new(width: usize) -> Self {
        Self { width, cells: Vec::new() }
    }

    pub(super) fn row<const WIDTH: usize>(&mut self, cells: [Cell<'v>; WIDTH]) {
        debug_assert_eq!(WIDTH, self.width, "a row of another width");
        self.cells.extend(cells);
    }

    pub(super) fn rows(&self) -> usize {
        self.cells.len() / self.width
    }

    /// Returns the statements with their parameters. The rows replace `{values}`, and `last` is the
    /// parameter after them.
    fn statements(
        &self,
        template: &str,
        last: Option<i64>,
    ) -> sqlx::Result<Vec<(AssertSqlSafe<String>, SqliteArguments)>> {
        let mut statements = Vec::new();
        for cells in self.cells.chunks(self.width * MOST_ROWS) {
            let rows = (cells.len() / self.width).next_power_of_two();
            let row = format!("({})", vec!["?"; self.width].join(","));
            let sql = template.replace("{values}", &vec![row.as_str(); rows].join(","));
            let mut arguments = SqliteArguments::default();
            arguments.reserve(rows * self.width + 1, 0);
            for cell in cells {
                let added = match cell {
                    Cell::Null => arguments.add(None::<i64>),
                    Cell::Int(number) => arguments.add(*number),
                    Cell::Id(id) => arguments.add(id.to_be_bytes().to_vec()),
                    Cell::Blob(bytes) => arguments.add(*bytes),
                    Cell::Text(text) => arguments.add(*text),
                };
                added.map_err(sqlx::Error::Encode)?;
            }
            for _ in cells.len()..rows * self.width {
                arguments.add(None::<i64>).map_err(sqlx::Error::Encode)?;
            }
            if let Some(last) = last {
                arguments.add(last).map_err(sqlx::Error::Encode)?;
            }
            statements.push((AssertSqlSafe(sql), arguments));
        }
        Ok(statements)
    }

    /// Executes the statements, and returns how many rows they changed.
    pub(super) async fn execute(
        &self,
        tx: &mut SqliteConnection,
        template: &str,
    ) -> sqlx::Result<u64> {
        self.run(tx, template, None).await
    }

    /// Executes the statements, whose parameter after the rows is the time `now`.
    #[cfg(feature = "saga")]
    pub(super) async fn execute_at(
        &self,
        tx: &mut SqliteConnection,
        template: &str,
        now: i64,
    ) -> sqlx::Result<u64> {
        self.run(tx, template, Some(now)).await
    }

    async fn run(
        &self,
        tx: &mut SqliteConnection,
        template: &str,
        last: Option<i64>,
    ) -> sqlx::Result<u64> {
        let mut changed = 0;
        for (sql, arguments) in self.statements(template, last)? {
            let done = sqlx::query_with::<Sqlite, _>(sql, arguments).execute(&mut *tx).await?;
            changed += done.rows_affected();
        }
        Ok(changed)
    }

    /// Returns the one text that each statement returns, if any.
    pub(super) async fn texts(
        &self,
        tx: &mut SqliteConnection,
        template: &str,
    ) -> sqlx::Result<Vec<String>> {
        let mut texts = Vec::new();
        for (sql, arguments) in self.statements(template, None)? {
            let query = sqlx::query_scalar_with::<Sqlite, Option<String>, _>(sql, arguments);
            texts.extend(query.fetch_one(&mut *tx).await?);
        }
        Ok(texts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::Connection;

    #[tokio::test]
    async fn any_number_of_rows_arrives_whole() {
        let mut tx = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let table = "CREATE TABLE t (a INTEGER NOT NULL, b BLOB, c TEXT, d BLOB, e INTEGER)";
        sqlx::query(table).execute(&mut tx).await.unwrap();
        for rows in [0, 1, 2, 3, 5, 127, 128, 129, 300] {
            let mut values = Values::new(5);
            for n in 0..rows {
                let (blob, text) = (Cell::Blob(&[1, 0, 2]), Cell::Text("ä"));
                values.row([Cell::Int(n), blob, text, Cell::Id(7), Cell::Null]);
            }
            let sql = "WITH new(a, b, c, d, e) AS (VALUES {values}) \
                       INSERT INTO t SELECT * FROM new WHERE a IS NOT NULL";
            assert_eq!(values.execute(&mut tx, sql).await.unwrap(), rows as u64);
            let sql = "WITH new(a, b, c, d, e) AS (VALUES {values}) \
                       SELECT group_concat(a) FROM new WHERE a IS NOT NULL";
            let texts = values.texts(&mut tx, sql).await.unwrap().join(",");
            let wanted: Vec<String> = (0..rows).map(|n| n.to_string()).collect();
            assert_eq!(texts, wanted.join(","));
        }
        let sql = "SELECT count(*) FROM t WHERE b = x'010002' AND c = 'ä' \
                   AND d = x'00000000000000000000000000000007' AND e IS NULL";
        let whole: i64 = sqlx::query_scalar(sql).fetch_one(&mut tx).await.unwrap();
        assert_eq!(whole, 695);
    }
}
