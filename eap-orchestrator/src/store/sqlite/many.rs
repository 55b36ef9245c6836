//! Many rows of one table by few statements.
//!
//! What SQLite does once for each statement, such as opening a table with all its indexes, is about half of what a small
//! row costs.

use rusqlite::{CachedStatement, Connection, ToSql};

use super::fault::Fault;

/// How many rows a statement writes where there are as many.
const TOGETHER: usize = 16;

/// Takes the values of rows, one after the other.
pub(super) struct Places<'a, 'c> {
    statement: &'a mut CachedStatement<'c>,
    taken: usize,
}

impl Places<'_, '_> {
    pub(super) fn take(&mut self, value: impl ToSql) -> Result<(), Fault> {
        self.taken += 1;
        Ok(self.statement.raw_bind_parameter(self.taken, value)?)
    }
}

/// Writes rows of so many columns; `head` is the statement up to its `VALUES`, and `give` hands over a row's values.
///
/// `head` says what becomes of a conflict, and that is not to undo the statement alone: SQLite would keep a copy of every
/// page that it touches. Whoever meets a fault undoes the transaction.
pub(super) fn write_rows<R>(
    connection: &Connection,
    head: &str,
    columns: usize,
    rows: &[R],
    give: impl Fn(&R, &mut Places<'_, '_>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let row = format!("({})", vec!["?"; columns].join(", "));
    let (together, rest) = rows.as_chunks::<TOGETHER>();
    let write = |rows: &mut dyn Iterator<Item = &[R]>, length: usize| -> Result<(), Fault> {
        let mut rows = rows.peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        let mut statement =
            connection.prepare_cached(&format!("{head} VALUES {}", vec![row.as_str(); length].join(", ")))?;
        for chunk in rows {
            let mut places = Places { statement: &mut statement, taken: 0 };
            chunk.iter().try_for_each(|row| give(row, &mut places))?;
            statement.raw_execute()?;
        }
        Ok(())
    };
    write(&mut together.iter().map(<[R; TOGETHER]>::as_slice), TOGETHER)?;
    write(&mut rest.chunks(1), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_written_however_many_there_are() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE pair (a INTEGER PRIMARY KEY, b TEXT) STRICT").unwrap();
        let mut written = 0;
        for count in [0, 1, TOGETHER - 1, TOGETHER, TOGETHER + 1, 3 * TOGETHER] {
            let rows: Vec<_> = (written..written + count).collect();
            write_rows(&connection, "INSERT OR FAIL INTO pair (a, b)", 2, &rows, |number, places| {
                places.take(*number as i64)?;
                places.take((number % 2 == 0).then(|| number.to_string()))
            })
            .unwrap();
            written += count;
        }
        let found: (i64, i64, i64) = connection
            .query_row("SELECT count(*), max(a), sum(b IS a OR (b IS NULL) = a % 2) FROM pair", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .unwrap();
        assert_eq!(found, (written as i64, written as i64 - 1, written as i64));
    }
}
