//! Registration and the account itself.

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use zlh_api::{ApiError, Client, Conflict, Failure, Invalid, Json, TooLarge, Unauthenticated};
use zlh_authn::{Actor, Role};
use zlh_guest::rfc3339;
use zlh_ids::UserId;
use zlh_storage::Db;
use zlh_storage::audit::{self, Act};

use super::login::{LoggedIn, start_session};
use super::{Auth, unavailable};
use crate::model::{Email, PersonName, Username};
use crate::password::{self, Password};
use crate::store::{self, Names, NewUser, User};

zlh_api::operations!(pub(super) Auth: register, get_me, update_me);

/// An account to be made, with everything in it checked.
pub(super) struct Registration {
    pub(super) email: Email,
    pub(super) username: Username,
    pub(super) password: Password,
    pub(super) names: Names,
    pub(super) role: Role,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Register {
    #[schema(
        min_length = 3,
        max_length = 254,
        pattern = r"^[^\s\x00-\x1f\x7f-\x9f]+@[^\s\x00-\x1f\x7f-\x9f.@]([^\s\x00-\x1f\x7f-\x9f@]*[^\s\x00-\x1f\x7f-\x9f.@])?$"
    )]
    email: String,
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{2,31}$")]
    username: String,
    #[schema(min_length = 8, max_length = 256)]
    password: String,
    #[schema(pattern = r"^[^\x00-\x1f\x7f-\x9f]{1,100}$")]
    first_name: Option<String>,
    #[schema(pattern = r"^[^\x00-\x1f\x7f-\x9f]{1,100}$")]
    last_name: Option<String>,
    #[schema(pattern = r"^[^\x00-\x1f\x7f-\x9f]{1,100}$")]
    display_name: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct UpdateMe {
    #[schema(pattern = r"^[^\x00-\x1f\x7f-\x9f]{1,100}$")]
    first_name: Option<String>,
    #[schema(pattern = r"^[^\x00-\x1f\x7f-\x9f]{1,100}$")]
    last_name: Option<String>,
    #[schema(pattern = r"^[^\x00-\x1f\x7f-\x9f]{1,100}$")]
    display_name: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct Me {
    ok: bool,
    user: Profile,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Profile {
    id: UserId,
    email: String,
    username: String,
    first_name: Option<String>,
    last_name: Option<String>,
    display_name: Option<String>,
    role: &'static str,
    created_at: String,
}

/// Makes an account and logs it in.
#[utoipa::path(
    post,
    path = "/api/auth/register",
    tag = "accounts",
    request_body = Register,
    responses((status = 201, body = LoggedIn), Invalid, Conflict, TooLarge, Failure),
)]
async fn register(
    State(auth): State<Auth>,
    client: Client,
    Json(body): Json<Register>,
) -> Result<(StatusCode, Json<LoggedIn>), ApiError> {
    // Parse.
    let registration = Registration {
        email: parse_email(&body.email)?,
        username: parse_username(&body.username)?,
        password: parse_password(body.password)?,
        names: parse_names(body.first_name, body.last_name, body.display_name)?,
        role: Role::User,
    };

    // Act.
    let password_hash = password::hash(&registration.password).map_err(ApiError::internal)?;
    let tx = auth.database.open().await.map_err(unavailable)?.begin().await.map_err(unavailable)?;
    let now_ms = (auth.clock)();
    let user_id = add_user(&tx, &registration, &password_hash, None, now_ms).await?;
    let logged_in = start_session(&auth, &tx, user_id, &client, now_ms).await?;
    tx.commit().await.map_err(unavailable)?;
    tracing::info!(user.id = %user_id, "registered an account");

    // Respond.
    Ok((StatusCode::CREATED, Json(logged_in)))
}

/// Shows the caller's account.
#[utoipa::path(
    get,
    path = "/api/auth/me",
    tag = "accounts",
    security(("token" = [])),
    responses((status = 200, body = Me), Unauthenticated, Failure),
)]
async fn get_me(State(auth): State<Auth>, actor: Actor) -> Result<Json<Me>, ApiError> {
    let db = auth.database.open().await.map_err(unavailable)?;
    me(&db, actor.user_id).await
}

/// Changes the names that are given.
#[utoipa::path(
    patch,
    path = "/api/auth/me",
    tag = "accounts",
    request_body = UpdateMe,
    security(("token" = [])),
    responses((status = 200, body = Me), Invalid, Unauthenticated, TooLarge, Failure),
)]
async fn update_me(
    State(auth): State<Auth>,
    actor: Actor,
    Json(body): Json<UpdateMe>,
) -> Result<Json<Me>, ApiError> {
    let names = parse_names(body.first_name, body.last_name, body.display_name)?;
    let db = auth.database.open().await.map_err(unavailable)?;
    store::rename(&db, actor.user_id, &names, (auth.clock)()).await.map_err(unavailable)?;
    me(&db, actor.user_id).await
}

/// Writes the account and its audit row.
pub(super) async fn add_user(
    db: &Db,
    new: &Registration,
    password_hash: &str,
    actor: Option<&str>,
    now_ms: i64,
) -> Result<UserId, ApiError> {
    let id = UserId::random();
    let user = NewUser {
        id,
        email: &new.email,
        username: &new.username,
        names: &new.names,
        password_hash,
        role: new.role,
    };
    if !store::add_user(db, &user, now_ms).await.map_err(unavailable)? {
        return Err(ApiError::conflict("an account with this e-mail address or user name exists"));
    }
    let own = id.to_string();
    let act = Act {
        actor: actor.unwrap_or(&own),
        action: "user.create",
        target: &own,
        detail: json!({ "role": new.role.as_str() }),
        at_ms: now_ms,
    };
    audit::append(db, &act).await.map_err(unavailable)?;
    Ok(id)
}

async fn me(db: &Db, id: UserId) -> Result<Json<Me>, ApiError> {
    let user = store::user(db, id).await.map_err(unavailable)?;
    // A login whose account went is none.
    let user = user.ok_or(ApiError::Unauthenticated)?;
    Ok(Json(Me { ok: true, user: profile(user) }))
}

fn profile(user: User) -> Profile {
    Profile {
        id: user.id,
        email: user.email,
        username: user.username,
        first_name: user.first_name,
        last_name: user.last_name,
        display_name: user.display_name,
        role: user.role.as_str(),
        created_at: rfc3339(user.created_at_ms),
    }
}

pub(super) fn parse_email(text: &str) -> Result<Email, ApiError> {
    Email::parse(text).ok_or_else(|| ApiError::field("email", "this is not an e-mail address"))
}

pub(super) fn parse_username(text: &str) -> Result<Username, ApiError> {
    Username::parse(text).ok_or_else(|| {
        ApiError::field(
            "username",
            "a user name has 3 to 32 letters, digits, `.`, `_` or `-`, the first a letter or digit",
        )
    })
}

pub(super) fn parse_password(text: String) -> Result<Password, ApiError> {
    Password::parse(text).map_err(|error| ApiError::field("password", error.to_string()))
}

fn parse_names(
    first: Option<String>,
    last: Option<String>,
    display: Option<String>,
) -> Result<Names, ApiError> {
    let parse = |field, name: Option<String>| {
        name.map(|name| {
            PersonName::parse(&name)
                .ok_or_else(|| ApiError::field(field, "a name has 1 to 100 characters"))
        })
        .transpose()
    };
    Ok(Names {
        first: parse("firstName", first)?,
        last: parse("lastName", last)?,
        display: parse("displayName", display)?,
    })
}
