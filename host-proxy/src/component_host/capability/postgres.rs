//! `spin:postgres`: each `open` lends a connection of a pool, so that a transaction belongs to its handle.
//!
//! Rows of a query are streamed as the guest reads them. A statement that returns none has finished, and its
//! effect is there, before the call returns.

mod parameter;
mod pool;
mod statement;
mod target;
mod value;

use std::future::Future;
use std::sync::Arc;

use wasmtime::Result;
use wasmtime::component::{
    Accessor, FutureReader, HasData, Linker, Resource, ResourceTable, StreamReader,
};

use self::pool::Lease;
pub(crate) use self::pool::{Pools, connect};
use self::statement::Started;
use super::batches::Batches;
use super::bindings::spin::postgres::postgres::{
    self, Column, Error, Host, HostConnection, HostConnectionBuilder,
    HostConnectionBuilderWithStore, HostConnectionWithStore, Interval, ParameterValue,
    RangeBoundKind, Row, RowSet,
};
use super::outbound_http::AllowList;

/// Handles that one instance may have open.
const MAX_HANDLES: usize = 64;

type Range<T> = (Option<(T, RangeBoundKind)>, Option<(T, RangeBoundKind)>);

/// What one component may connect to.
#[derive(Clone)]
pub(crate) struct Access {
    pub(crate) allowed: Arc<AllowList>,
    pub(crate) pools: Arc<Pools>,
}

/// The capability as one instance holds it.
pub(crate) struct Guest {
    access: Access,
    handles: Arc<()>,
}

impl Guest {
    pub(crate) fn new(access: Access) -> Self {
        Self { access, handles: Arc::default() }
    }
}

/// An open handle. With the last of its statements, its connection goes back.
#[derive(Clone)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it as `pub`")]
pub struct Connection {
    lease: Arc<Lease>,
    _counted: Arc<()>,
}

/// An address, and the certificate that its server may be signed with.
#[derive(Clone)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it as `pub`")]
pub struct ConnectionBuilder {
    address: String,
    ca_root: Option<String>,
}

/// View of a guest's state that this capability works on.
pub(crate) struct View<'a> {
    pub(crate) guest: &'a Guest,
    pub(crate) table: &'a mut ResourceTable,
}

impl View<'_> {
    /// What opens a handle, without a hold on the store.
    fn opener(
        &self,
        builder: ConnectionBuilder,
    ) -> impl Future<Output = Result<Connection, Error>> + Send + use<> {
        let (access, counted) = (self.guest.access.clone(), Arc::clone(&self.guest.handles));
        async move {
            // The instance holds one itself.
            if Arc::strong_count(&counted) > MAX_HANDLES + 1 {
                return Err(Error::ConnectionFailed("too many connections".into()));
            }
            let ConnectionBuilder { address, ca_root } = builder;
            let lease = access.pools.lend(&access.allowed, &address, ca_root).await?;
            Ok(Connection { lease: Arc::new(lease), _counted: counted })
        }
    }

    fn connection(&self, connection: &Resource<Connection>) -> Result<Connection> {
        Ok(self.table.get(connection)?.clone())
    }

    async fn open(&mut self, builder: ConnectionBuilder) -> Opened {
        match self.opener(builder).await {
            Ok(connection) => Ok(Ok(self.table.push(connection)?)),
            Err(error) => Ok(Err(error)),
        }
    }
}

type Opened = Result<Result<Resource<Connection>, Error>>;

pub(crate) struct Postgres;

impl HasData for Postgres {
    type Data<'a> = View<'a>;
}

pub(crate) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    state: fn(&mut T) -> View<'_>,
) -> Result<()> {
    postgres::add_to_linker::<T, Postgres>(linker, state)
}

fn plain(address: String) -> ConnectionBuilder {
    ConnectionBuilder { address, ca_root: None }
}

impl Host for View<'_> {}

impl HostConnectionBuilder for View<'_> {
    async fn new(&mut self, address: String) -> Result<Resource<ConnectionBuilder>> {
        Ok(self.table.push(plain(address))?)
    }

    async fn set_ca_root(
        &mut self,
        builder: Resource<ConnectionBuilder>,
        certificate: String,
    ) -> Result<Result<(), Error>> {
        if let Err(reason) = pool::check_ca_root(&certificate) {
            return Ok(Err(Error::Other(format!("invalid root certificate: {reason}"))));
        }
        self.table.get_mut(&builder)?.ca_root = Some(certificate);
        Ok(Ok(()))
    }

    async fn build(&mut self, builder: Resource<ConnectionBuilder>) -> Opened {
        let builder = self.table.get(&builder)?.clone();
        self.open(builder).await
    }

    async fn drop(&mut self, builder: Resource<ConnectionBuilder>) -> Result<()> {
        self.table.delete(builder)?;
        Ok(())
    }
}

impl HostConnection for View<'_> {
    async fn open(&mut self, address: String) -> Opened {
        View::open(self, plain(address)).await
    }

    async fn query(
        &mut self,
        connection: Resource<Connection>,
        sql: String,
        parameters: Vec<ParameterValue>,
    ) -> Result<Result<RowSet, Error>> {
        let lease = self.connection(&connection)?.lease;
        Ok(async {
            let mut started = statement::query(lease, &sql, parameters).await?;
            let rows = statement::collect(&mut started).await?;
            Ok(RowSet { columns: started.columns, rows })
        }
        .await)
    }

    async fn execute(
        &mut self,
        connection: Resource<Connection>,
        sql: String,
        parameters: Vec<ParameterValue>,
    ) -> Result<Result<u64, Error>> {
        let lease = self.connection(&connection)?.lease;
        Ok(statement::execute(&lease, &sql, parameters).await)
    }

    async fn drop(&mut self, connection: Resource<Connection>) -> Result<()> {
        self.table.delete(connection)?;
        Ok(())
    }
}

async fn open_async<T: Send>(
    accessor: &Accessor<T, Postgres>,
    builder: ConnectionBuilder,
) -> Opened {
    let opening = accessor.with(|mut access| access.get().opener(builder));
    match opening.await {
        Ok(connection) => {
            accessor.with(|mut access| Ok(Ok(access.get().table.push(connection)?)))
        }
        Err(error) => Ok(Err(error)),
    }
}

impl<T: Send> HostConnectionBuilderWithStore<T> for Postgres {
    async fn build_async(
        accessor: &Accessor<T, Self>,
        builder: Resource<ConnectionBuilder>,
    ) -> Opened {
        let builder = accessor.with(|mut access| access.get().table.get(&builder).cloned())?;
        open_async(accessor, builder).await
    }
}

impl<T: Send> HostConnectionWithStore<T> for Postgres {
    async fn open_async(accessor: &Accessor<T, Self>, address: String) -> Opened {
        open_async(accessor, plain(address)).await
    }

    async fn query_async(
        accessor: &Accessor<T, Self>,
        connection: Resource<Connection>,
        sql: String,
        parameters: Vec<ParameterValue>,
    ) -> Result<Result<(Vec<Column>, StreamReader<Row>, FutureReader<Result<(), Error>>), Error>>
    {
        let lease = accessor.with(|mut access| access.get().connection(&connection))?.lease;
        let Started { columns, rows, done } = match statement::query(lease, &sql, parameters).await
        {
            Ok(started) => started,
            Err(error) => return Ok(Err(error)),
        };
        accessor.with(|mut access| {
            let rows = StreamReader::new(&mut access, Batches(rows))?;
            let done = FutureReader::new(&mut access, done)?;
            Ok(Ok((columns, rows, done)))
        })
    }

    async fn execute_async(
        accessor: &Accessor<T, Self>,
        connection: Resource<Connection>,
        sql: String,
        parameters: Vec<ParameterValue>,
    ) -> Result<Result<u64, Error>> {
        let lease = accessor.with(|mut access| access.get().connection(&connection))?.lease;
        Ok(statement::execute(&lease, &sql, parameters).await)
    }
}
