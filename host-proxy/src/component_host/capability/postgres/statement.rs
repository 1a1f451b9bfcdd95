//! Runs one statement and hands out its rows.

use std::pin::Pin;
use std::sync::Arc;

use deadpool_postgres::ClientWrapper;
use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::RowStream;
use tokio_postgres::error::SqlState;

use super::parameter::parameter;
use super::pool::Lease;
use super::value::{data_type, size, values};
use crate::component_host::capability::bindings::spin::postgres::postgres::{
    Column, DbError, Error, ParameterValue, QueryError, Row,
};

/// Largest row, and largest result that is returned at once, in bytes: well below what an instance may use.
const MAX_RESULT_BYTES: usize = 32 << 20;
/// Rows that are handed out together, so that a guest is woken less often.
const BATCH_ROWS: usize = 64;
/// Size in bytes at which a batch is handed out before it is full.
const BATCH_BYTES: usize = 64 << 10;
/// Batches of rows that wait for the guest; the server then waits too.
const QUEUED_BATCHES: usize = 4;
/// Statements that a connection keeps prepared. Beyond, all are forgotten: a guest that writes values into its
/// SQL must not fill the memory of either side.
const CACHED_STATEMENTS: usize = 256;

/// A statement that has returned its columns.
pub(super) struct Started {
    pub(super) columns: Vec<Column>,
    pub(super) rows: mpsc::Receiver<Vec<Row>>,
    pub(super) done: oneshot::Receiver<Result<(), Error>>,
}

/// Runs a statement and counts the rows that it changed.
pub(super) async fn execute(
    lease: &Lease,
    sql: &str,
    parameters: Vec<ParameterValue>,
) -> Result<u64, Error> {
    lease.begin();
    let counted = async {
        let (mut rows, _) = start(lease.client()?, sql, parameters).await?;
        while let Some(row) = rows.next().await {
            row.map_err(query_failed)?;
        }
        Ok(rows.rows_affected().unwrap_or(0))
    };
    let counted = counted.await;
    lease.end_if(is_over(&counted));
    counted
}

/// Runs a statement until its first row is there, or it is complete. What fails by then fails the call; what
/// fails later belongs to the stream of rows.
pub(super) async fn query(
    lease: Arc<Lease>,
    sql: &str,
    parameters: Vec<ParameterValue>,
) -> Result<Started, Error> {
    lease.begin();
    let first = async {
        let (mut stream, columns) = start(lease.client()?, sql, parameters).await?;
        let first = next(&mut stream).await?;
        Ok((stream, columns, first))
    };
    let (mut stream, columns, first) = match first.await {
        Ok(started) => started,
        Err(error) => {
            let failed = Err(error);
            lease.end_if(is_over(&failed));
            return failed;
        }
    };
    let mut batch: Vec<Row> = first.into_iter().collect();
    let over = read_ahead(&mut stream, &mut batch);
    let (rows_sender, rows) = mpsc::channel(QUEUED_BATCHES);
    let (done_sender, done) = oneshot::channel();
    if let Some(outcome) = over {
        lease.end_if(is_over(&outcome));
        // Both receivers are ours.
        let _ = rows_sender.try_send(batch);
        let _ = done_sender.send(outcome);
    } else {
        tokio::spawn(async move {
            let read = tokio::select! {
                biased;
                // The guest wants no more. The server goes on, so the statement is not over.
                () = rows_sender.closed() => Ok(()),
                read = send_rows(batch, &mut stream, &rows_sender) => {
                    lease.end_if(is_over(&read));
                    read
                }
            };
            drop(lease);
            // Nobody listens once the guest is gone.
            let _ = done_sender.send(read);
        });
    }
    Ok(Started { columns, rows, done })
}

/// Reads what has come with the first row: usually all there is, which then needs no task of its own. Answers
/// how the statement ended, if it did.
fn read_ahead(stream: &mut Pin<Box<RowStream>>, batch: &mut Vec<Row>) -> Option<Result<(), Error>> {
    if batch.is_empty() {
        return Some(Ok(()));
    }
    while batch.len() < BATCH_ROWS {
        match next(stream).now_or_never()? {
            Ok(Some(row)) => batch.push(row),
            Ok(None) => return Some(Ok(())),
            Err(error) => return Some(Err(error)),
        }
    }
    None
}

/// Reads a result to its end.
pub(super) async fn collect(started: &mut Started) -> Result<Vec<Row>, Error> {
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while let Some(batch) = started.rows.recv().await {
        bytes += batch.iter().flatten().map(size).sum::<usize>();
        if bytes > MAX_RESULT_BYTES {
            return Err(too_large());
        }
        rows.extend(batch);
    }
    (&mut started.done).await.unwrap_or(Ok(()))?;
    Ok(rows)
}

/// Whether the server has nothing more to say about the statement.
fn is_over<T>(outcome: &Result<T, Error>) -> bool {
    matches!(
        outcome,
        Ok(_) | Err(Error::QueryFailed(QueryError::DbError(_)) | Error::BadParameter(_))
    )
}

async fn start(
    client: &ClientWrapper,
    sql: &str,
    parameters: Vec<ParameterValue>,
) -> Result<(Pin<Box<RowStream>>, Vec<Column>), Error> {
    let parameters = parameters.into_iter().map(parameter).collect::<Result<Vec<_>, _>>()?;
    if client.statement_cache.size() >= CACHED_STATEMENTS {
        client.statement_cache.clear();
    }
    let statement = client.prepare_cached(sql).await.map_err(query_failed)?;
    let columns = statement.columns().iter();
    let columns = columns
        .map(|column| Column {
            name: column.name().to_owned(),
            data_type: data_type(column.type_()),
        })
        .collect();
    match client.query_raw(&statement, parameters).await {
        Ok(rows) => Ok((Box::pin(rows), columns)),
        Err(error) => {
            // A plan that no longer fits its tables, or was lost by a pooler in between, is made anew next time.
            let stale = [SqlState::FEATURE_NOT_SUPPORTED, SqlState::INVALID_SQL_STATEMENT_NAME];
            if error.code().is_some_and(|code| stale.contains(code)) {
                client.statement_cache.clear();
            }
            Err(query_failed(error))
        }
    }
}

async fn next(stream: &mut Pin<Box<RowStream>>) -> Result<Option<Row>, Error> {
    let Some(row) = stream.next().await else { return Ok(None) };
    let row = values(&row.map_err(query_failed)?)?;
    if row.iter().map(size).sum::<usize>() > MAX_RESULT_BYTES {
        return Err(too_large());
    }
    Ok(Some(row))
}

async fn send_rows(
    mut batch: Vec<Row>,
    stream: &mut Pin<Box<RowStream>>,
    sender: &mpsc::Sender<Vec<Row>>,
) -> Result<(), Error> {
    // Sending fails only when the guest is gone, which the caller sees.
    let _ = sender.send(std::mem::take(&mut batch)).await;
    let mut bytes = 0;
    while let Some(row) = next(stream).await? {
        bytes += row.iter().map(size).sum::<usize>();
        batch.push(row);
        if batch.len() >= BATCH_ROWS || bytes >= BATCH_BYTES {
            bytes = 0;
            let _ = sender.send(std::mem::take(&mut batch)).await;
        }
    }
    if !batch.is_empty() {
        let _ = sender.send(batch).await;
    }
    Ok(())
}

fn too_large() -> Error {
    let text = format!("query result exceeds limit of {MAX_RESULT_BYTES} bytes");
    Error::QueryFailed(QueryError::Text(text))
}

fn query_failed(error: tokio_postgres::Error) -> Error {
    let as_text = format!("{error:?}");
    Error::QueryFailed(match error.as_db_error() {
        None => QueryError::Text(as_text),
        Some(db) => QueryError::DbError(DbError {
            as_text,
            severity: db.severity().to_owned(),
            code: db.code().code().to_owned(),
            message: db.message().to_owned(),
            detail: db.detail().map(str::to_owned),
            extras: extras(db),
        }),
    })
}

fn extras(error: &tokio_postgres::error::DbError) -> Vec<(String, String)> {
    let line = error.line().map(|line| line.to_string());
    [
        ("column", error.column()),
        ("constraint", error.constraint()),
        ("routine", error.routine()),
        ("hint", error.hint()),
        ("table", error.table()),
        ("datatype", error.datatype()),
        ("schema", error.schema()),
        ("file", error.file()),
        ("line", line.as_deref()),
        ("where_", error.where_()),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
    .collect()
}
