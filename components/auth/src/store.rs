//! Accounts. Their sessions are in `sessions`.

pub(crate) mod sessions;

use zlh_authn::Role;
use zlh_ids::UserId;
use zlh_storage::{Db, Row, StoreError, Value};

use crate::model::{Email, PersonName, Username};

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

pub(crate) async fn password_hash(db: &Db, id: UserId) -> Result<Option<String>, StoreError> {
    let sql = "SELECT password_hash FROM users WHERE id = $1";
    let row = db.query_one(sql, &[Value::text(id)]).await?;
    row.map(|row| row.get(0)).transpose()
}

/// Replaces the password, unless it changed since it was checked. False when it did.
pub(crate) async fn set_password(
    db: &Db,
    id: UserId,
    old_hash: &str,
    new_hash: &str,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let row = db
        .query_one(
            "UPDATE users SET password_hash = $3, updated_at = $4 WHERE id = $1 AND password_hash = $2 RETURNING id",
            &[Value::text(id), old_hash.into(), new_hash.into(), now_ms.into()],
        )
        .await?;
    Ok(row.is_some())
}
