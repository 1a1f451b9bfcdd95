//! The audit log: who did what to what, written in the transaction that did it.

use uuid::Uuid;

use crate::{Db, StoreError, Value};

/// One act.
#[derive(Debug)]
pub struct Act<'a> {
    /// Who: a user id, or the name of a host-proxy.
    pub actor: &'a str,
    /// What, as `noun.verb`: `instance.create`.
    pub action: &'a str,
    /// To what, such as a vmid.
    pub target: &'a str,
    /// More about it; never a secret.
    pub detail: serde_json::Value,
    /// Unix milliseconds.
    pub at_ms: i64,
}

/// Appends one act.
///
/// # Errors
///
/// [`StoreError::Database`] when the row cannot be written.
pub async fn append(db: &Db, act: &Act<'_>) -> Result<(), StoreError> {
    db.execute(
        "INSERT INTO audit_log (id, at, actor, action, target, detail) VALUES ($1, $2, $3, $4, $5, $6)",
        &[
            Value::text(Uuid::new_v4()),
            act.at_ms.into(),
            act.actor.into(),
            act.action.into(),
            act.target.into(),
            act.detail.to_string().into(),
        ],
    )
    .await
}
