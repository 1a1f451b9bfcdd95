//! Accounts, sessions and refresh tokens. Owns all three tables.

use zlh_authn::Role;
use zlh_ids::{SessionId, UserId};
use zlh_storage::{Db, Row, StoreError, Value};

use crate::model::{Email, PersonName, Username};

/// Sessions that are forgotten when one is opened: more than one, so that they grow fewer, and few, so that a
/// login stays fast.
const FORGOTTEN_AT_ONCE: i64 = 20;

/// An account to be made.
pub(crate) struct NewUser<'a> {
    pub(crate) id: UserId,
    pub(crate) email: &'a Email,
    pub(crate) username: &'a Username,
    pub(crate) names: &'a Names,
    pub(crate) password_hash: &'a str,
    pub(crate) role: Role,
}

/// Names that a user may change.
#[derive(Default)]
pub(crate) struct Names {
    pub(crate) first: Option<PersonName>,
    pub(crate) last: Option<PersonName>,
    pub(crate) display: Option<PersonName>,
}

/// An account as shown to its user.
pub(crate) struct User {
    pub(crate) id: UserId,
    pub(crate) email: String,
    pub(crate) username: String,
    pub(crate) first_name: Option<String>,
    pub(crate) last_name: Option<String>,
    pub(crate) display_name: Option<String>,
    pub(crate) role: Role,
    pub(crate) created_at_ms: i64,
}

/// What a login needs to know.
pub(crate) struct Login {
    pub(crate) user_id: UserId,
    pub(crate) password_hash: String,
    pub(crate) disabled: bool,
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

/// Adds the account. False when the address or the name is taken.
pub(crate) async fn add_user(db: &Db, user: &NewUser<'_>, now_ms: i64) -> Result<bool, StoreError> {
    let name = |name: &Option<PersonName>| Value::from(name.as_ref().map(PersonName::to_string));
    let row = db
        .query_one(
            "INSERT INTO users (id, email, email_key, username, username_key, password_hash, first_name, \
             last_name, display_name, role, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11) ON CONFLICT DO NOTHING RETURNING id",
            &[
                Value::text(user.id),
                Value::text(user.email),
                user.email.key().into(),
                Value::text(user.username),
                user.username.key().into(),
                user.password_hash.into(),
                name(&user.names.first),
                name(&user.names.last),
                name(&user.names.display),
                user.role.as_str().into(),
                now_ms.into(),
            ],
        )
        .await?;
    Ok(row.is_some())
}

/// The account behind an address or a user name. A user name has no `@`, so at most one matches.
pub(crate) async fn login(db: &Db, identifier: &str) -> Result<Option<Login>, StoreError> {
    let row = db
        .query_one(
            "SELECT id, password_hash, disabled_at FROM users WHERE email_key = $1 OR username_key = $1",
            &[identifier.to_lowercase().into()],
        )
        .await?;
    let read = |row: Row| -> Result<_, StoreError> {
        let disabled_at: Option<i64> = row.get(2)?;
        Ok(Login {
            user_id: row.parse(0)?,
            password_hash: row.get(1)?,
            disabled: disabled_at.is_some(),
        })
    };
    row.map(read).transpose()
}

/// Replaces a password's hash by a stronger one of the same password, unless the password changed meanwhile.
pub(crate) async fn rehash(db: &Db, id: UserId, old: &str, new: &str) -> Result<(), StoreError> {
    db.execute(
        "UPDATE users SET password_hash = $3 WHERE id = $1 AND password_hash = $2",
        &[Value::text(id), old.into(), new.into()],
    )
    .await
}

pub(crate) async fn user(db: &Db, id: UserId) -> Result<Option<User>, StoreError> {
    let row = db
        .query_one(
            "SELECT id, email, username, first_name, last_name, display_name, role, created_at \
             FROM users WHERE id = $1",
            &[Value::text(id)],
        )
        .await?;
    let read = |row: Row| -> Result<_, StoreError> {
        Ok(User {
            id: row.parse(0)?,
            email: row.get(1)?,
            username: row.get(2)?,
            first_name: row.get(3)?,
            last_name: row.get(4)?,
            display_name: row.get(5)?,
            role: row.parse(6)?,
            created_at_ms: row.get(7)?,
        })
    };
    row.map(read).transpose()
}

/// Sets the names that are given and keeps the others.
pub(crate) async fn rename(
    db: &Db,
    id: UserId,
    names: &Names,
    now_ms: i64,
) -> Result<(), StoreError> {
    let name = |name: &Option<PersonName>| Value::from(name.as_ref().map(PersonName::to_string));
    db.execute(
        "UPDATE users SET first_name = COALESCE($2, first_name), last_name = COALESCE($3, last_name), \
         display_name = COALESCE($4, display_name), updated_at = $5 WHERE id = $1",
        &[Value::text(id), name(&names.first), name(&names.last), name(&names.display), now_ms.into()],
    )
    .await
}

/// Opens a session, and forgets some of those that would be over by now. Their refresh tokens are kept until
/// then, used ones too: by them a copy is noticed.
pub(crate) async fn add_session(
    db: &Db,
    id: SessionId,
    user: UserId,
    now_ms: i64,
    expires_at_ms: i64,
) -> Result<(), StoreError> {
    forget_sessions(db, now_ms).await?;
    db.execute(
        "INSERT INTO sessions (id, user_id, created_at, expires_at) VALUES ($1, $2, $3, $4)",
        &[Value::text(id), Value::text(user), now_ms.into(), expires_at_ms.into()],
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

pub(crate) async fn end_session(
    db: &Db,
    id: SessionId,
    reason: &str,
    now_ms: i64,
) -> Result<(), StoreError> {
    db.execute(
        "UPDATE sessions SET ended_at = $2, end_reason = $3 WHERE id = $1 AND ended_at IS NULL",
        &[Value::text(id), now_ms.into(), reason.into()],
    )
    .await
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

pub(crate) async fn use_refresh_token(db: &Db, hash: &str, now_ms: i64) -> Result<(), StoreError> {
    db.execute(
        "UPDATE refresh_tokens SET used_at = $2 WHERE hash = $1",
        &[hash.into(), now_ms.into()],
    )
    .await
}
