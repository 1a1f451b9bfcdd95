//! Where SQLite and PostgreSQL are told the same thing in different words.

use std::borrow::Cow;

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(target_family = "wasm"),
    expect(dead_code, reason = "native connections are of SQLite only")
)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    /// A statement of the common subset in this dialect.
    pub(crate) fn statement(self, sql: &str) -> Cow<'_, str> {
        match self {
            // To SQLite `$1` is a name, numbered by where it first appears; `?1` is what others mean by `$1`.
            Self::Sqlite => sql.replace('$', "?").into(),
            Self::Postgres => sql.into(),
        }
    }

    /// What makes a connection safe to write with. PostgreSQL is as it is; a host sets no pragma in SQLite. A
    /// writer waits for as long as a request may take less a little, for SQLite does not queue writers in order.
    pub(crate) fn before_writes(self) -> &'static [&'static str] {
        match self {
            Self::Sqlite => &[
                "PRAGMA busy_timeout = 20000",
                "PRAGMA foreign_keys = ON",
                "PRAGMA synchronous = FULL",
            ],
            Self::Postgres => &[],
        }
    }

    /// What begins a transaction that reads what it then changes: one at a time in the whole system, and each
    /// sees all of those before it (decision 0006). Its advisory lock is PostgreSQL's for SQLite's write lock;
    /// the number is `zlh` in ASCII. Whoever waits for it holds a connection, so it is not waited for as long as
    /// hosts let a reader wait for one. A transaction that a guest forgets ends by itself.
    pub(crate) fn begin(self) -> &'static [&'static str] {
        match self {
            Self::Sqlite => &["BEGIN IMMEDIATE"],
            Self::Postgres => &[
                "BEGIN ISOLATION LEVEL READ COMMITTED",
                "SELECT set_config('lock_timeout', '7s', true), \
                 set_config('idle_in_transaction_session_timeout', '20s', true), \
                 pg_advisory_xact_lock(8023144)",
            ],
        }
    }

    /// What the database needs once. Write-ahead mode is a property of SQLite's file.
    pub(crate) fn on_migrate(self) -> &'static [&'static str] {
        match self {
            Self::Sqlite => &["PRAGMA journal_mode = WAL"],
            Self::Postgres => &[],
        }
    }
}
