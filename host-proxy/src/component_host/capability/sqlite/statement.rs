//! Runs one statement and hands out its rows.

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, Result, Row, params_from_iter};

use crate::component_host::capability::bindings::spin::sqlite::sqlite::{RowResult, Value};

/// Largest value or statement, and largest result that is returned at once: well below what an
/// instance may use.
pub(super) const MAX_VALUE_BYTES: usize = 32 << 20;
/// Rows that are handed out together, so that a guest is woken less often.
const BATCH_ROWS: usize = 64;
/// Size at which a batch is handed out before it is full.
const BATCH_BYTES: usize = 64 << 10;

/// Runs `sql`. `on_columns` is called once the statement is known to work: for one that only reads,
/// when its first row is there; for any other, when it is complete. `on_rows` answers whether more is
/// wanted, and `on_complete` is called when nothing is left to run, with whether it may have written.
///
/// Errors that come before `on_columns` are the statement's; later ones belong to the stream of rows.
pub(super) fn run(
    connection: &Connection,
    sql: &str,
    parameters: &[Value],
    on_columns: impl FnOnce(Vec<String>),
    mut on_rows: impl FnMut(Vec<RowResult>) -> bool,
    on_complete: impl FnOnce(bool),
) -> Result<()> {
    let mut statement = connection.prepare_cached(sql)?;
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let count = columns.len();
    let writes = !statement.readonly();
    let lazy = count > 0 && !writes;
    let mut rows = statement.query(params_from_iter(parameters.iter().map(Parameter)))?;

    if !lazy {
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            all.push(values(row, count)?);
        }
        on_complete(writes);
        on_columns(columns);
        if !all.is_empty() {
            on_rows(all);
        }
        return Ok(());
    }

    let mut next = rows.next()?.map(|row| values(row, count)).transpose()?;
    on_columns(columns);
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while let Some(row) = next {
        bytes += size(&row);
        batch.push(row);
        if batch.len() >= BATCH_ROWS || bytes >= BATCH_BYTES {
            bytes = 0;
            if !on_rows(std::mem::take(&mut batch)) {
                break;
            }
        }
        next = rows.next()?.map(|row| values(row, count)).transpose()?;
    }
    on_complete(writes);
    if !batch.is_empty() {
        on_rows(batch);
    }
    Ok(())
}

/// Whether a statement only reads, and so may be run twice.
pub(super) fn is_query(sql: &str) -> bool {
    sql.trim_start().get(..7).is_some_and(|word| word.eq_ignore_ascii_case("SELECT "))
}

/// Runs a query of at most one batch of rows. `None` when it has more.
pub(super) fn run_brief(
    connection: &Connection,
    sql: &str,
    parameters: &[Value],
) -> Result<Option<(Vec<String>, Vec<RowResult>)>> {
    let mut statement = connection.prepare_cached(sql)?;
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut rows = statement.query(params_from_iter(parameters.iter().map(Parameter)))?;
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let row = values(row, columns.len())?;
        bytes += size(&row);
        batch.push(row);
        if batch.len() > BATCH_ROWS || bytes > BATCH_BYTES {
            return Ok(None);
        }
    }
    Ok(Some((columns, batch)))
}

/// Memory that a row takes, roughly.
pub(super) fn size(row: &RowResult) -> usize {
    let value = |value: &Value| match value {
        Value::Text(text) => text.len(),
        Value::Blob(blob) => blob.len(),
        Value::Integer(_) | Value::Real(_) | Value::Null => 0,
    };
    row.values.iter().map(|v| size_of::<Value>() + value(v)).sum()
}

fn values(row: &Row<'_>, count: usize) -> Result<RowResult> {
    let values = (0..count).map(|index| row.get_ref(index).map(from_sql)).collect::<Result<_>>()?;
    Ok(RowResult { values })
}

/// A parameter, bound without a copy.
struct Parameter<'a>(&'a Value);

impl ToSql for Parameter<'_> {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Value::Integer(integer) => ValueRef::Integer(*integer),
            Value::Real(real) => ValueRef::Real(*real),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Blob(blob) => ValueRef::Blob(blob),
            Value::Null => ValueRef::Null,
        }))
    }
}

fn from_sql(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => Value::Integer(integer),
        ValueRef::Real(real) => Value::Real(real),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(blob) => Value::Blob(blob.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a statement whose reader leaves after the first batch; returns columns and rows it saw.
    fn run_and_leave(connection: &Connection, sql: &str) -> (Vec<String>, usize) {
        let (mut columns, mut rows) = (Vec::new(), 0);
        let seen = |batch: Vec<RowResult>| {
            rows += batch.len();
            false
        };
        run(connection, sql, &[], |names| columns = names, seen, |_| {}).unwrap();
        (columns, rows)
    }

    #[test]
    fn a_query_stops_when_its_reader_leaves_and_a_write_does_not() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE t(x)").unwrap();
        let thousand =
            "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 1000) ";

        let query = run_and_leave(&connection, &format!("{thousand} SELECT x FROM c"));
        let insert = format!("{thousand} INSERT INTO t SELECT x FROM c RETURNING x");
        run_and_leave(&connection, &insert);

        assert_eq!(query, (vec!["x".to_owned()], BATCH_ROWS));
        let count: i64 = connection.query_row("SELECT count(*) FROM t", [], |r| r.get(0)).unwrap();
        assert_eq!(count, 1000);
    }

    #[test]
    fn an_error_in_the_first_row_comes_before_the_columns() {
        let connection = Connection::open_in_memory().unwrap();
        let mut columns = None;

        let sql = "SELECT abs(-9223372036854775808)";
        let result = run(&connection, sql, &[], |c| columns = Some(c), |_| true, |_| {});

        assert!(result.is_err());
        assert_eq!(columns, None);
    }
}
