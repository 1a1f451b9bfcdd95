//! The state of an instance, and everything that is linked into one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use wasmtime::component::{Linker, ResourceTable};
use wasmtime::{Engine, Result};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::capability::{key_value, outbound_http, postgres, sqlite, variables, wasi_keyvalue};
use super::limits::{Limits, MemoryLimit};

/// What a component's stanza grants, shared by its instances.
#[derive(Clone)]
pub(crate) struct Grants {
    pub(crate) environment: Arc<BTreeMap<String, String>>,
    /// The folder that the guest sees as `/`, if it sees any.
    pub(crate) files: Option<Arc<Path>>,
    pub(crate) key_value: key_value::Access,
    pub(crate) outbound: outbound_http::Outbound,
    pub(crate) postgres: postgres::Access,
    pub(crate) sqlite: sqlite::Access,
    pub(crate) variables: variables::Variables,
}

/// Wasmtime limits headers by what they take in memory. Short ones take several times their text.
const FIELD_OVERHEAD: usize = 4;

/// State of one instance.
pub(crate) struct Guest {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    pub(crate) memory: MemoryLimit,
    key_value: key_value::Access,
    outbound: outbound_http::Outbound,
    postgres: postgres::Guest,
    sqlite: sqlite::Guest,
    variables: variables::Variables,
}

impl Guest {
    /// # Errors
    ///
    /// When the folder of its files is gone.
    pub(crate) fn new(grants: Grants, memory: MemoryLimit, limits: &Limits) -> Result<Self> {
        let mut wasi = WasiCtx::builder();
        // A guest's standard output must not mix with what scripts read from ours.
        wasi.stdout(std::io::stderr()).stderr(std::io::stderr());
        for (name, value) in grants.environment.iter() {
            wasi.env(name, value);
        }
        if let Some(files) = &grants.files {
            wasi.preopened_dir(files, "/", FsPerms::ReadOnly)?;
        }
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(limits.max_header_bytes.saturating_mul(FIELD_OVERHEAD));
        Ok(Self {
            table: ResourceTable::new(),
            wasi: wasi.build(),
            http,
            memory,
            key_value: grants.key_value,
            outbound: grants.outbound,
            postgres: postgres::Guest::new(grants.postgres),
            sqlite: sqlite::Guest::new(grants.sqlite),
            variables: grants.variables,
        })
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.outbound }
    }
}

/// Links every interface that this host serves. Both generations of WASI are there, because Rust's
/// standard library imports 0.2 while spin-sdk imports 0.3.
pub(crate) fn create(engine: &Engine) -> Result<Linker<Guest>> {
    let mut linker = Linker::<Guest>::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    variables::add_to_linker(&mut linker, |guest| &mut guest.variables)?;
    key_value::add_to_linker(&mut linker, |guest| key_value::View {
        access: &guest.key_value,
        table: &mut guest.table,
    })?;
    wasi_keyvalue::add_to_linker(&mut linker, |guest| key_value::View {
        access: &guest.key_value,
        table: &mut guest.table,
    })?;
    postgres::add_to_linker(&mut linker, |guest| postgres::View {
        guest: &guest.postgres,
        table: &mut guest.table,
    })?;
    sqlite::add_to_linker(&mut linker, |guest| sqlite::View {
        guest: &guest.sqlite,
        table: &mut guest.table,
    })?;
    Ok(linker)
}
