//! `spin:sqlite`: each `open` is a connection of its own, so that a transaction belongs to its handle.
//!
//! SQLite blocks, so statements run on a blocking thread, those of one handle one at a time. Short queries
//! are the exception: in write-ahead mode a reader waits for nobody, and reading a few rows takes less than
//! handing them to another thread. One that turns out to be long is interrupted, and begun anew over there.
//!
//! Rows of a query are streamed as the guest reads them; a statement that writes has finished, and its
//! effect is there, before the call returns.

mod pool;
mod statement;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use tokio::sync::{Mutex, mpsc, oneshot};
use wasmtime::Result;
use wasmtime::component::{
    Accessor, FutureReader, HasData, Linker, Resource, ResourceTable, StreamReader,
};

use self::pool::Lease;
pub(crate) use self::pool::Pool;
use super::batches::Batches;
use super::bindings::spin::sqlite::sqlite::{
    self, Error, Host, HostConnection, HostConnectionWithStore, QueryResult, RowResult, Value,
};

/// Handles that one instance may have open: each is a file descriptor and a blocking thread at times.
const MAX_HANDLES: usize = 64;
/// Batches of rows that wait for the guest; a query of fewer rows never waits for it.
const QUEUED_BATCHES: usize = 4;

/// The databases by label.
pub(crate) type Databases = BTreeMap<String, Arc<Pool>>;

/// What one component may open.
#[derive(Clone)]
pub(crate) struct Access {
    pub(crate) databases: Arc<Databases>,
    pub(crate) granted: Arc<BTreeSet<String>>,
}

/// The capability as one instance holds it. Dropped with the instance, and then interrupts whatever
/// statements it left running.
pub(crate) struct Guest {
    access: Access,
    stopped: Arc<AtomicBool>,
    handles: Arc<()>,
}

impl Guest {
    pub(crate) fn new(access: Access) -> Self {
        Self { access, stopped: Arc::default(), handles: Arc::default() }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

/// An open handle.
#[derive(Clone)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it as `pub`")]
pub struct Connection {
    session: Arc<Mutex<Session>>,
    counters: Arc<Counters>,
    _counted: Arc<()>,
}

/// What a handle has of the pool.
struct Session {
    pool: Arc<Pool>,
    stopped: Arc<AtomicBool>,
    /// Kept from the first statement on that is not a short query: settings and transactions are in it.
    lease: Option<Lease>,
}

impl Session {
    /// Runs a short query on this thread. `None` when it must run on a blocking one.
    fn peek(&mut self, sql: &str, parameters: &[Value]) -> Option<Result<Started, Error>> {
        if !statement::is_query(sql) {
            return None;
        }
        let kept = self.lease.take();
        let keep = kept.is_some();
        let lease = kept.or_else(|| Lease::take_idle(&self.pool, &self.stopped))?;
        let result = lease.briefly(|connection| statement::run_brief(connection, sql, parameters));
        if keep {
            self.lease = Some(lease);
        } else {
            lease.give_back_unchanged();
        }
        match result? {
            Ok(None) => None,
            Ok(Some((columns, rows))) => Some(Ok(Started::complete(columns, rows))),
            Err(reason) if is_interrupt(&reason) => None,
            Err(reason) => Some(Err(error(reason))),
        }
    }

    /// The handle's own connection; blocks.
    fn lease(&mut self) -> Result<&rusqlite::Connection, Error> {
        if self.lease.is_none() {
            let lease = Lease::take(Arc::clone(&self.pool), Arc::clone(&self.stopped));
            self.lease = Some(lease.map_err(error)?);
        }
        self.lease.as_ref().and_then(Lease::connection).ok_or(Error::InvalidConnection)
    }
}

/// What the most recently completed statement left; a pooled connection would report another handle's.
#[derive(Default)]
struct Counters {
    last_insert_rowid: AtomicI64,
    changes: AtomicU64,
}

/// A statement that has returned its columns.
struct Started {
    columns: Vec<String>,
    rows: Rows,
    done: Done,
}

/// The rows of a statement.
enum Rows {
    All(Vec<RowResult>),
    Coming(mpsc::Receiver<Vec<RowResult>>),
}

/// How a statement ends.
enum Done {
    Well,
    Running(tokio::task::JoinHandle<Result<(), Error>>),
}

impl Started {
    fn complete(columns: Vec<String>, rows: Vec<RowResult>) -> Self {
        Self { columns, rows: Rows::All(rows), done: Done::Well }
    }
}

impl Connection {
    async fn start(self, sql: String, parameters: Vec<Value>) -> Result<Result<Started, Error>> {
        let mut session = Arc::clone(&self.session).lock_owned().await;
        if let Some(started) = session.peek(&sql, &parameters) {
            return Ok(started);
        }
        let (columns_sender, columns) = oneshot::channel();
        let (rows_sender, rows) = mpsc::channel(QUEUED_BATCHES);
        let done = tokio::task::spawn_blocking(move || {
            let connection = session.lease()?;
            let before = connection.total_changes();
            let result = statement::run(
                connection,
                &sql,
                &parameters,
                |columns| drop(columns_sender.send(columns)),
                |batch| rows_sender.blocking_send(batch).is_ok(),
                |wrote| self.counters.record(connection, wrote, before),
            );
            result.map_err(error)
        });
        match columns.await {
            Ok(columns) => {
                Ok(Ok(Started { columns, rows: Rows::Coming(rows), done: Done::Running(done) }))
            }
            Err(_) => Ok(Err(done.await?.err().unwrap_or(Error::InvalidConnection))),
        }
    }
}

impl Counters {
    fn record(&self, connection: &rusqlite::Connection, wrote: bool, total_changes_before: u64) {
        if wrote {
            self.changes.store(connection.changes(), Ordering::Relaxed);
        }
        if connection.total_changes() != total_changes_before {
            self.last_insert_rowid.store(connection.last_insert_rowid(), Ordering::Relaxed);
        }
    }
}

fn is_interrupt(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted)
}

fn error(error: rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => Error::DatabaseFull,
        _ => Error::Io(error.to_string()),
    }
}

/// View of a guest's state that this capability works on.
pub(crate) struct View<'a> {
    pub(crate) guest: &'a Guest,
    pub(crate) table: &'a mut ResourceTable,
}

impl View<'_> {
    /// A handle, if the component is granted the database. SQLite opens nothing before the first statement.
    fn open(&mut self, label: &str) -> Result<Result<Resource<Connection>, Error>> {
        if !self.guest.access.granted.contains(label) {
            return Ok(Err(Error::AccessDenied));
        }
        let Some(pool) = self.guest.access.databases.get(label) else {
            return Ok(Err(Error::NoSuchDatabase));
        };
        if Arc::strong_count(&self.guest.handles) > MAX_HANDLES {
            return Ok(Err(Error::Io(format!("more than {MAX_HANDLES} connections are open"))));
        }
        let session = Session {
            pool: Arc::clone(pool),
            stopped: Arc::clone(&self.guest.stopped),
            lease: None,
        };
        let connection = Connection {
            session: Arc::new(Mutex::new(session)),
            counters: Arc::default(),
            _counted: Arc::clone(&self.guest.handles),
        };
        Ok(Ok(self.table.push(connection)?))
    }

    fn connection(&self, connection: &Resource<Connection>) -> Result<Connection> {
        Ok(self.table.get(connection)?.clone())
    }
}

pub(crate) struct Sqlite;

impl HasData for Sqlite {
    type Data<'a> = View<'a>;
}

pub(crate) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    state: fn(&mut T) -> View<'_>,
) -> Result<()> {
    sqlite::add_to_linker::<T, Sqlite>(linker, state)
}

impl Host for View<'_> {}

impl HostConnection for View<'_> {
    async fn open(&mut self, database: String) -> Result<Result<Resource<Connection>, Error>> {
        self.open(&database)
    }

    async fn execute(
        &mut self,
        connection: Resource<Connection>,
        sql: String,
        parameters: Vec<Value>,
    ) -> Result<Result<QueryResult, Error>> {
        let started = match self.connection(&connection)?.start(sql, parameters).await? {
            Ok(started) => started,
            Err(error) => return Ok(Err(error)),
        };
        let rows = match started.rows {
            Rows::All(rows) => rows,
            Rows::Coming(rows) => match collect(rows).await {
                Ok(rows) => rows,
                Err(error) => return Ok(Err(error)),
            },
        };
        let done = match started.done {
            Done::Well => Ok(()),
            Done::Running(done) => done.await?,
        };
        Ok(done.map(|()| QueryResult { columns: started.columns, rows }))
    }

    async fn last_insert_rowid(&mut self, connection: Resource<Connection>) -> Result<i64> {
        let connection = self.connection(&connection)?;
        Ok(connection.counters.last_insert_rowid.load(Ordering::Relaxed))
    }

    async fn changes(&mut self, connection: Resource<Connection>) -> Result<u64> {
        Ok(self.connection(&connection)?.counters.changes.load(Ordering::Relaxed))
    }

    async fn drop(&mut self, connection: Resource<Connection>) -> Result<()> {
        self.table.delete(connection)?;
        Ok(())
    }
}

impl<T: Send> HostConnectionWithStore<T> for Sqlite {
    async fn open_async(
        accessor: &Accessor<T, Self>,
        database: String,
    ) -> Result<Result<Resource<Connection>, Error>> {
        accessor.with(|mut access| access.get().open(&database))
    }

    async fn execute_async(
        accessor: &Accessor<T, Self>,
        connection: Resource<Connection>,
        sql: String,
        parameters: Vec<Value>,
    ) -> Result<
        Result<(Vec<String>, StreamReader<RowResult>, FutureReader<Result<(), Error>>), Error>,
    > {
        let connection = accessor.with(|mut access| access.get().connection(&connection))?;
        let started = match connection.start(sql, parameters).await? {
            Ok(started) => started,
            Err(error) => return Ok(Err(error)),
        };
        accessor.with(|mut access| {
            let rows = match started.rows {
                Rows::All(rows) => StreamReader::new(&mut access, rows)?,
                Rows::Coming(rows) => StreamReader::new(&mut access, Batches(rows))?,
            };
            let done = match started.done {
                Done::Well => {
                    FutureReader::new(&mut access, async { wasmtime::error::Ok(Ok(())) })?
                }
                Done::Running(done) => FutureReader::new(&mut access, done)?,
            };
            Ok(Ok((started.columns, rows, done)))
        })
    }

    async fn last_insert_rowid_async(
        accessor: &Accessor<T, Self>,
        connection: Resource<Connection>,
    ) -> Result<i64> {
        let connection = accessor.with(|mut access| access.get().connection(&connection))?;
        Ok(connection.counters.last_insert_rowid.load(Ordering::Relaxed))
    }

    async fn changes_async(
        accessor: &Accessor<T, Self>,
        connection: Resource<Connection>,
    ) -> Result<u64> {
        let connection = accessor.with(|mut access| access.get().connection(&connection))?;
        Ok(connection.counters.changes.load(Ordering::Relaxed))
    }
}

/// All rows, unless they are too many to be returned at once.
async fn collect(mut batches: mpsc::Receiver<Vec<RowResult>>) -> Result<Vec<RowResult>, Error> {
    let (mut rows, mut size) = (Vec::new(), 0);
    while let Some(batch) = batches.recv().await {
        size += batch.iter().map(statement::size).sum::<usize>();
        if size > statement::MAX_VALUE_BYTES {
            return Err(Error::Io("the result is too large to be returned at once".into()));
        }
        rows.extend(batch);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests;
