//! Handlers: `account` for what a user is, `login` and `sessions` for logins, `password` for changing it,
//! `internal` for the operator.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use serde::Serialize;
use utoipa::ToSchema;
use zlh_api::{ApiError, Json};
use zlh_guest::Clock;
use zlh_ids::{SessionId, UserId};
use zlh_storage::{Database, StoreError};

mod account;
mod internal;
mod login;
mod password;
mod sessions;

/// Makes access tokens.
#[async_trait]
pub trait AccessTokens: Send + Sync + 'static {
    /// A token that proves the login for that long.
    async fn issue(
        &self,
        user: UserId,
        session: SessionId,
        ttl: Duration,
    ) -> Result<String, ApiError>;
}

/// What the handlers work with.
#[derive(Clone)]
pub struct Auth {
    /// Where everything is stored.
    pub database: Database,
    /// Makes access tokens.
    pub access_tokens: Arc<dyn AccessTokens>,
    /// How long an access token lives.
    pub access_ttl: Duration,
    /// How long a session may go unused.
    pub idle_ttl: Duration,
    /// How long a session lasts, however much it is used.
    pub session_ttl: Duration,
    /// The time.
    pub clock: Clock,
}

zlh_api::operations!(pub Auth: ; account, login, password, sessions);

/// An answer that there is nothing to add to.
#[derive(Serialize, ToSchema)]
struct Done {
    ok: bool,
    message: &'static str,
}

impl Done {
    fn because(message: &'static str) -> Json<Self> {
        Json(Self { ok: true, message })
    }
}

/// The routes of this component, those for host-proxies included.
pub fn router(auth: Auth) -> Router {
    routes().merge(internal::router()).with_state(auth)
}

fn unavailable(error: StoreError) -> ApiError {
    ApiError::unavailable(error)
}

#[cfg(test)]
mod tests;
