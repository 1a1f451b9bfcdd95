//! What can go wrong in a store.

use std::error::Error as StdError;

/// Why a store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database did not answer, or refused.
    #[error("the statement `{statement}` failed")]
    Database {
        /// Its beginning; parameters are never part of it.
        statement: String,
        /// What the driver said.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// A row holds what it cannot hold.
    #[error("column {column} of a row is not {wanted}")]
    Corrupt {
        /// Counted from zero.
        column: usize,
        /// The type that was expected.
        wanted: &'static str,
    },
    /// The schema is newer than this program.
    #[error("the database is at version {found}, this program knows up to {known}")]
    TooNew {
        /// Version of the database.
        found: i64,
        /// Newest version that this program has.
        known: i64,
    },
}

impl StoreError {
    pub(crate) fn database(
        statement: &str,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self::Database { statement: statement.chars().take(80).collect(), source: source.into() }
    }
}
