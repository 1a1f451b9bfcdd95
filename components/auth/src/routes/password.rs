//! Changing one's password.

use axum::extract::State;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;
use zlh_api::{ApiError, Client, Failure, Invalid, Json, RateLimited, TooLarge, Unauthenticated};
use zlh_authn::Actor;
use zlh_storage::audit::{self, Act};

use super::login::{admit_user, end_sessions, parse_given};
use super::{Auth, Done, unavailable};
use crate::password::{self, Password};
use crate::store;

zlh_api::operations!(pub(super) Auth: change_password);

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ChangePassword {
    #[schema(min_length = 1, max_length = 256)]
    current_password: String,
    #[schema(min_length = 8, max_length = 256)]
    new_password: String,
}

/// Changes the caller's password and ends all their other sessions.
#[utoipa::path(
    post,
    path = "/api/auth/password",
    tag = "accounts",
    request_body = ChangePassword,
    security(("token" = [])),
    responses(
        (status = 200, body = Done),
        Invalid,
        Unauthenticated,
        TooLarge,
        RateLimited,
        Failure,
    ),
)]
async fn change_password(
    State(auth): State<Auth>,
    actor: Actor,
    client: Client,
    Json(body): Json<ChangePassword>,
) -> Result<Json<Done>, ApiError> {
    // Parse.
    let new = Password::parse(body.new_password)
        .map_err(|error| ApiError::field("newPassword", error.to_string()))?;
    let current = parse_given("currentPassword", body.current_password)?;

    // Authorise: a stolen token is no password.
    let db = auth.database.open().await.map_err(unavailable)?;
    let old_hash = store::password_hash(&db, actor.user_id).await.map_err(unavailable)?;
    let old_hash = old_hash.ok_or(ApiError::Unauthenticated)?;
    let attempt = admit_user(&auth, actor.user_id, &client).await?;
    if !password::verify(&current, Some(&old_hash)).map_err(ApiError::internal)? {
        return Err(ApiError::field("currentPassword", "this is not the password"));
    }

    // Act.
    let new_hash = password::hash(&new).map_err(ApiError::internal)?;
    let now_ms = (auth.clock)();
    let tx = db.begin().await.map_err(unavailable)?;
    attempt.succeeded(&tx).await.map_err(unavailable)?;
    let id = actor.user_id;
    if !store::set_password(&tx, id, &old_hash, &new_hash, now_ms).await.map_err(unavailable)? {
        return Err(ApiError::field("currentPassword", "this is not the password any more"));
    }
    end_sessions(&tx, id, Some(actor.session_id), "password-changed", now_ms).await?;
    let own = id.to_string();
    let act = Act {
        actor: &own,
        action: "user.password",
        target: &own,
        detail: json!({}),
        at_ms: now_ms,
    };
    audit::append(&tx, &act).await.map_err(unavailable)?;
    tx.commit().await.map_err(unavailable)?;
    tracing::info!(user.id = %id, "changed a password");

    // Respond.
    Ok(Done::because("the password is changed"))
}
