//! Sessions and their refresh tokens.

use zlh_api::Client;
use zlh_ids::{SessionId, UserId};
use zlh_storage::{Db, Row, StoreError, Value};

/// Sessions that are forgotten when one is opened: more than one, so that they grow fewer, and few, so that a
/// login stays fast.
const FORGOTTEN_AT_ONCE: i64 = 20;

/// Nobody looks through more.
const MAX_SHOWN: i64 = 100;

/// A session as shown to its user.
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) network: Option<String>,
    pub(crate) user_agent: Option<String>,
    pub(crate) created_at_ms: i64,
    /// When it was last continued, which it is once an hour at most.
    pub(crate) used_at_ms: i64,
    pub(crate) expires_at_ms: i64,
}

/// A refresh token as it was found.
pub(crate) struct RefreshToken {
    pub(crate) session_id: SessionId,
    pub(crate) user_id: UserId,
    /// It was exchanged before.
    pub(crate) used: bool,
    /// Nobody used it for too long.
    pub(crate) expired: bool,
    /// The session lasts, and the account is not disabled.
    pub(crate) session_live: bool,
    /// When the session ends, in Unix milliseconds.
    pub(crate) session_expires_at_ms: i64,
}

/// Opens a session, and forgets some of those that would be over by now. Their refresh tokens are kept until
/// then, used ones too: by them a copy is noticed.
pub(crate) async fn add_session(
    db: &Db,
    id: SessionId,
    user: UserId,
    client: &Client,
    now_ms: i64,
    expires_at_ms: i64,
) -> Result<(), StoreError> {
    forget_sessions(db, now_ms).await?;
    db.execute(
        "INSERT INTO sessions (id, user_id, network, user_agent, created_at, used_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $5, $6)",
        &[
            Value::text(id),
            Value::text(user),
            client.network.clone().into(),
            client.user_agent.clone().into(),
            now_ms.into(),
            expires_at_ms.into(),
        ],
    )
    .await
}

async fn forget_sessions(db: &Db, now_ms: i64) -> Result<(), StoreError> {
    let oldest = [now_ms.into(), FORGOTTEN_AT_ONCE.into()];
    db.execute(
        "DELETE FROM refresh_tokens WHERE session_id IN \
         (SELECT id FROM sessions WHERE expires_at <= $1 ORDER BY expires_at, id LIMIT $2)",
        &oldest,
    )
    .await?;
    db.execute(
        "DELETE FROM sessions WHERE id IN \
         (SELECT id FROM sessions WHERE expires_at <= $1 ORDER BY expires_at, id LIMIT $2) \
         AND NOT EXISTS (SELECT 1 FROM refresh_tokens WHERE session_id = sessions.id)",
        &oldest,
    )
    .await
}

/// Ends a session of a user. False when they have none of that name that lasts.
pub(crate) async fn end_session(
    db: &Db,
    id: SessionId,
    user: UserId,
    reason: &str,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let row = db
        .query_one(
            "UPDATE sessions SET ended_at = $3, end_reason = $4 \
             WHERE id = $1 AND user_id = $2 AND ended_at IS NULL AND expires_at > $3 RETURNING id",
            &[Value::text(id), Value::text(user), now_ms.into(), reason.into()],
        )
        .await?;
    Ok(row.is_some())
}

/// Ends all sessions of a user but one. Answers which.
pub(crate) async fn end_sessions(
    db: &Db,
    user: UserId,
    but: Option<SessionId>,
    reason: &str,
    now_ms: i64,
) -> Result<Vec<SessionId>, StoreError> {
    let rows = db
        .query(
            "UPDATE sessions SET ended_at = $3, end_reason = $4 \
             WHERE user_id = $1 AND id <> $2 AND ended_at IS NULL AND expires_at > $3 RETURNING id",
            &[
                Value::text(user),
                but.map(|id| id.to_string()).unwrap_or_default().into(),
                now_ms.into(),
                reason.into(),
            ],
        )
        .await?;
    rows.iter().map(|row| row.parse(0)).collect()
}

/// The sessions that a user could go on with, those used last first.
pub(crate) async fn live_sessions(
    db: &Db,
    user: UserId,
    unused_since_ms: i64,
    now_ms: i64,
) -> Result<Vec<Session>, StoreError> {
    let rows = db
        .query(
            "SELECT id, network, user_agent, created_at, COALESCE(used_at, created_at) AS used, expires_at \
             FROM sessions WHERE user_id = $1 AND ended_at IS NULL AND expires_at > $2 \
             AND COALESCE(used_at, created_at) > $3 ORDER BY used DESC, id LIMIT $4",
            &[Value::text(user), now_ms.into(), unused_since_ms.into(), MAX_SHOWN.into()],
        )
        .await?;
    let read = |row: &Row| -> Result<_, StoreError> {
        Ok(Session {
            id: row.parse(0)?,
            network: row.get(1)?,
            user_agent: row.get(2)?,
            created_at_ms: row.get(3)?,
            used_at_ms: row.get(4)?,
            expires_at_ms: row.get(5)?,
        })
    };
    rows.iter().map(read).collect()
}

/// Whether a user has logged in from there, as far back as sessions are remembered.
pub(crate) async fn knows_network(
    db: &Db,
    user: UserId,
    network: &str,
) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM sessions WHERE user_id = $1 AND network = $2 LIMIT 1";
    Ok(db.query_one(sql, &[Value::text(user), network.into()]).await?.is_some())
}

pub(crate) async fn add_refresh_token(
    db: &Db,
    hash: &str,
    session: SessionId,
    now_ms: i64,
    expires_at_ms: i64,
) -> Result<(), StoreError> {
    db.execute(
        "INSERT INTO refresh_tokens (hash, session_id, created_at, expires_at) VALUES ($1, $2, $3, $4)",
        &[hash.into(), Value::text(session), now_ms.into(), expires_at_ms.into()],
    )
    .await
}

pub(crate) async fn refresh_token(
    db: &Db,
    hash: &str,
    now_ms: i64,
) -> Result<Option<RefreshToken>, StoreError> {
    let row = db
        .query_one(
            "SELECT s.id, s.user_id, s.expires_at, r.used_at, r.expires_at, \
             CASE WHEN s.ended_at IS NULL AND s.expires_at > $2 AND u.disabled_at IS NULL THEN 1 ELSE 0 END \
             FROM refresh_tokens r JOIN sessions s ON s.id = r.session_id JOIN users u ON u.id = s.user_id \
             WHERE r.hash = $1",
            &[hash.into(), now_ms.into()],
        )
        .await?;
    let read = |row: Row| -> Result<_, StoreError> {
        let used_at: Option<i64> = row.get(3)?;
        let (expires_at, session_live): (i64, i64) = (row.get(4)?, row.get(5)?);
        Ok(RefreshToken {
            session_id: row.parse(0)?,
            user_id: row.parse(1)?,
            used: used_at.is_some(),
            expired: expires_at <= now_ms,
            session_live: session_live == 1,
            session_expires_at_ms: row.get(2)?,
        })
    };
    row.map(read).transpose()
}

/// Uses a token of a session up.
pub(crate) async fn use_refresh_token(
    db: &Db,
    hash: &str,
    session: SessionId,
    now_ms: i64,
) -> Result<(), StoreError> {
    db.execute(
        "UPDATE refresh_tokens SET used_at = $2 WHERE hash = $1",
        &[hash.into(), now_ms.into()],
    )
    .await?;
    db.execute(
        "UPDATE sessions SET used_at = $2 WHERE id = $1",
        &[Value::text(session), now_ms.into()],
    )
    .await
}
