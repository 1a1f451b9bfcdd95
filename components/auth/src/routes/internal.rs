//! Accounts made by the operator.

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use http::StatusCode;
use zlh_agent_protocol::internal::{CreateUser, CreatedUser};
use zlh_api::{ApiError, Json};
use zlh_authn::HostProxy;

use super::account::{Registration, add_user, parse_email, parse_password, parse_username};
use super::{Auth, unavailable};
use crate::password;
use crate::store::Names;

pub(super) fn router() -> Router<Auth> {
    Router::new().route("/internal/users", post(create_user))
}

/// Makes an account of any role.
async fn create_user(
    State(auth): State<Auth>,
    host_proxy: HostProxy,
    Json(body): Json<CreateUser>,
) -> Result<(StatusCode, Json<CreatedUser>), ApiError> {
    let registration = Registration {
        email: parse_email(&body.email)?,
        username: parse_username(&body.username)?,
        password: parse_password(body.password)?,
        names: Names::default(),
        role: body
            .role
            .parse()
            .map_err(|_| ApiError::field("role", "a role is `user` or `admin`"))?,
    };
    let password_hash = password::hash(&registration.password).map_err(ApiError::internal)?;
    let tx = auth.database.open().await.map_err(unavailable)?.begin().await.map_err(unavailable)?;
    let user_id =
        add_user(&tx, &registration, &password_hash, Some(&host_proxy.name), (auth.clock)())
            .await?;
    tx.commit().await.map_err(unavailable)?;

    Ok((StatusCode::CREATED, Json(CreatedUser { user_id })))
}
