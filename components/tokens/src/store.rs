//! What this component reads and writes. Owns `used_tokens` and `ide_sessions`.

use zlh_agent_protocol::internal::{IdeGrant, Machine};
use zlh_authn::session::live_role;
use zlh_ids::{InstanceId, SessionId, UserId, Vmid};
use zlh_storage::{Db, Row, StoreError, Value};

use crate::model::{Container, Ide, StreamToken};

/// The caller's dev container of that number, unless it is suspended or being deleted.
pub(crate) async fn own_ide(db: &Db, owner: UserId, vmid: Vmid) -> Result<Option<Ide>, StoreError> {
    let row = db
        .query_one(
            "SELECT i.instance_id, i.ide_address, i.host, g.url FROM instances i \
             LEFT JOIN gateways g ON g.host = i.host WHERE i.vmid = $1 AND i.owner_id = $2 \
             AND i.ctype = 'dev' AND i.suspended_at IS NULL AND i.state <> 'deleting'",
            &[vmid.get().into(), Value::text(owner)],
        )
        .await?;
    let read = |row: Row| {
        let machine = Machine { host: row.get(2)?, gateway_url: row.get(3)? };
        Ok(Ide { vmid, instance_id: row.parse(0)?, ide_address: row.get(1)?, machine })
    };
    row.map(read).transpose()
}

/// The caller's container of that number, unless it is suspended or being deleted.
pub(crate) async fn own_container(
    db: &Db,
    owner: UserId,
    vmid: Vmid,
) -> Result<Option<Container>, StoreError> {
    let row = db
        .query_one(
            "SELECT i.instance_id, i.ctype, CASE i.state WHEN 'active' THEN i.agent_address END, i.host, g.url \
             FROM instances i LEFT JOIN gateways g ON g.host = i.host WHERE i.vmid = $1 \
             AND i.owner_id = $2 AND i.suspended_at IS NULL AND i.state <> 'deleting'",
            &[vmid.get().into(), Value::text(owner)],
        )
        .await?;
    row.map(|row| {
        Ok(Container {
            vmid,
            instance_id: row.parse(0)?,
            ctype: row.parse(1)?,
            agent_address: row.get(2)?,
            machine: Machine { host: row.get(3)?, gateway_url: row.get(4)? },
        })
    })
    .transpose()
}

/// The container that a grant opens, if it still has this life and this owner.
pub(crate) async fn granted_container(
    db: &Db,
    grant: &IdeGrant,
) -> Result<Option<Container>, StoreError> {
    Ok(own_container(db, grant.user_id, grant.vmid)
        .await?
        .filter(|container| container.instance_id == grant.instance_id))
}

/// Whether the login that a grant hangs on still holds.
pub(crate) async fn login_holds(
    db: &Db,
    grant: &IdeGrant,
    now_ms: i64,
) -> Result<bool, StoreError> {
    Ok(live_role(db, grant.session_id, grant.user_id, now_ms).await?.is_some())
}

/// The IDE that a grant opens, if the container still has this life and this owner.
pub(crate) async fn granted_ide(db: &Db, grant: &IdeGrant) -> Result<Option<Ide>, StoreError> {
    Ok(own_ide(db, grant.user_id, grant.vmid)
        .await?
        .filter(|ide| ide.instance_id == grant.instance_id))
}

/// Marks a token as used. False when it already was.
pub(crate) async fn use_up(db: &Db, token: &StreamToken) -> Result<bool, StoreError> {
    let row = db
        .query_one(
            "INSERT INTO used_tokens (jti, expires_at) VALUES ($1, $2) ON CONFLICT (jti) DO NOTHING RETURNING jti",
            &[token.jti.as_str().into(), token.expires_at_ms.into()],
        )
        .await?;
    Ok(row.is_some())
}

/// Whether a token was exchanged.
pub(crate) async fn is_used(db: &Db, token: &StreamToken) -> Result<bool, StoreError> {
    let row = db
        .query_one("SELECT jti FROM used_tokens WHERE jti = $1", &[token.jti.as_str().into()])
        .await?;
    Ok(row.is_some())
}

/// Opens a session, and forgets what has expired.
pub(crate) async fn add_session(
    db: &Db,
    hash: &str,
    grant: &IdeGrant,
    now_ms: i64,
    expires_at_ms: i64,
) -> Result<(), StoreError> {
    // A token is remembered a little longer than its leeway.
    db.execute("DELETE FROM used_tokens WHERE expires_at < $1", &[(now_ms - 60_000).into()])
        .await?;
    db.execute("DELETE FROM ide_sessions WHERE expires_at < $1", &[now_ms.into()]).await?;
    db.execute(
        "INSERT INTO ide_sessions (hash, vmid, instance_id, user_id, session_id, created_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        &[
            hash.into(),
            grant.vmid.get().into(),
            Value::text(grant.instance_id),
            Value::text(grant.user_id),
            Value::text(grant.session_id),
            now_ms.into(),
            expires_at_ms.into(),
        ],
    )
    .await
}

/// What an opened session grants, and until when in Unix milliseconds.
pub(crate) async fn session(
    db: &Db,
    hash: &str,
    vmid: Vmid,
    now_ms: i64,
) -> Result<Option<(IdeGrant, i64)>, StoreError> {
    let row = db
        .query_one(
            "SELECT instance_id, user_id, session_id, expires_at FROM ide_sessions \
             WHERE hash = $1 AND vmid = $2 AND expires_at > $3",
            &[hash.into(), vmid.get().into(), now_ms.into()],
        )
        .await?;
    let read = |row: Row| -> Result<_, StoreError> {
        let instance_id: InstanceId = row.parse(0)?;
        let session_id: SessionId = row.parse(2)?;
        Ok((IdeGrant { vmid, instance_id, user_id: row.parse(1)?, session_id }, row.get(3)?))
    };
    row.map(read).transpose()
}
