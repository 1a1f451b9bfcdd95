//! `spin:sqlite`: each `open` is a connection of its own, so that a transaction belongs to its handle.
//!
//! SQLite blocks, so every call runs on a blocking thread, and statements of one handle run one at a time.
//! Rows of a query are streamed as the guest reads them; a statement that writes has finished, and its
//! effect is there, before the call returns.

mod pool;
mod statement;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::sync::{Mutex, mpsc, oneshot};
use wasmtime::component::{
    Accessor, Destination, FutureReader, HasData, Linker, Resource, ResourceTable, StreamProducer,
    StreamReader, StreamResult, VecBuffer,
};
use wasmtime::{Result, StoreContextMut};

use self::pool::Lease;
pub(crate) use self::pool::Pool;
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
    lease: Arc<Mutex<Lease>>,
    counters: Arc<Counters>,
    _counted: Arc<()>,
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
    rows: mpsc::Receiver<Vec<RowResult>>,
    done: tokio::task::JoinHandle<Result<(), Error>>,
}

impl Connection {
    async fn start(self, sql: String, parameters: Vec<Value>) -> Result<Result<Started, Error>> {
        let lease = Arc::clone(&self.lease).lock_owned().await;
        let (columns_sender, columns) = oneshot::channel();
        let (rows_sender, rows) = mpsc::channel(QUEUED_BATCHES);
        let done = tokio::task::spawn_blocking(move || {
            let connection = lease.connection().ok_or(Error::InvalidConnection)?;
            let before = connection.total_changes();
            let result = statement::run(
                connection,
                &sql,
                parameters,
                |columns| drop(columns_sender.send(columns)),
                |batch| rows_sender.blocking_send(batch).is_ok(),
                |wrote| self.counters.record(connection, wrote, before),
            );
            result.map_err(error)
        });
        match columns.await {
            Ok(columns) => Ok(Ok(Started { columns, rows, done })),
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
    /// Checks the grant, and returns what opens the handle on a blocking thread.
    fn opener(
        &self,
        label: &str,
    ) -> Result<impl FnOnce() -> Result<Connection, Error> + Send + use<>, Error> {
        if !self.guest.access.granted.contains(label) {
            return Err(Error::AccessDenied);
        }
        let pool = self.guest.access.databases.get(label).ok_or(Error::NoSuchDatabase)?;
        if Arc::strong_count(&self.guest.handles) > MAX_HANDLES {
            return Err(Error::Io(format!("more than {MAX_HANDLES} connections are open")));
        }
        let (pool, stopped) = (Arc::clone(pool), Arc::clone(&self.guest.stopped));
        let counted = Arc::clone(&self.guest.handles);
        Ok(move || {
            let lease = Lease::take(pool, stopped).map_err(error)?;
            let lease = Arc::new(Mutex::new(lease));
            Ok(Connection { lease, counters: Arc::default(), _counted: counted })
        })
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
        let open = match self.opener(&database) {
            Ok(open) => open,
            Err(error) => return Ok(Err(error)),
        };
        match tokio::task::spawn_blocking(open).await? {
            Ok(connection) => Ok(Ok(self.table.push(connection)?)),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn execute(
        &mut self,
        connection: Resource<Connection>,
        sql: String,
        parameters: Vec<Value>,
    ) -> Result<Result<QueryResult, Error>> {
        let mut started = match self.connection(&connection)?.start(sql, parameters).await? {
            Ok(started) => started,
            Err(error) => return Ok(Err(error)),
        };
        let (mut rows, mut size) = (Vec::new(), 0);
        while let Some(batch) = started.rows.recv().await {
            size += batch.iter().map(statement::size).sum::<usize>();
            if size > statement::MAX_VALUE_BYTES {
                return Ok(Err(Error::Io("the result is too large to be returned at once".into())));
            }
            rows.extend(batch);
        }
        let done = started.done.await?;
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
        let open = match accessor.with(|mut access| access.get().opener(&database)) {
            Ok(open) => open,
            Err(error) => return Ok(Err(error)),
        };
        match tokio::task::spawn_blocking(open).await? {
            Ok(connection) => {
                accessor.with(|mut access| Ok(Ok(access.get().table.push(connection)?)))
            }
            Err(error) => Ok(Err(error)),
        }
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
            let rows = StreamReader::new(&mut access, Rows(started.rows))?;
            let done = FutureReader::new(&mut access, started.done)?;
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

/// The rows of a statement, as the stream that the guest reads.
struct Rows(mpsc::Receiver<Vec<RowResult>>);

impl<D> StreamProducer<D> for Rows {
    type Item = RowResult;
    type Buffer = VecBuffer<RowResult>;

    fn poll_produce<'a>(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        store: StoreContextMut<'a, D>,
        mut destination: Destination<'a, RowResult, VecBuffer<RowResult>>,
        finish: bool,
    ) -> Poll<Result<StreamResult>> {
        // A read of nothing only asks whether there is something to read, and must not lose it.
        if destination.remaining(store) == Some(0) {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        match self.get_mut().0.poll_recv(context) {
            Poll::Ready(Some(batch)) => {
                destination.set_buffer(batch.into());
                Poll::Ready(Ok(StreamResult::Completed))
            }
            Poll::Ready(None) => Poll::Ready(Ok(StreamResult::Dropped)),
            Poll::Pending if finish => Poll::Ready(Ok(StreamResult::Cancelled)),
            Poll::Pending => Poll::Pending,
        }
    }
}
