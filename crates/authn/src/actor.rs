//! Who calls. An [`Actor`] exists only because a verifier accepted a credential; a handler that asks for
//! one answers 401 without it.

use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::extract::{Extension, FromRequestParts};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use zlh_api::ApiError;
use zlh_ids::{SessionId, UserId};

/// What a user may do beyond their own things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Own things only.
    User,
    /// Everything.
    Admin,
}

impl Role {
    /// The word in the database and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        match text {
            "user" => Ok(Self::User),
            "admin" => Ok(Self::Admin),
            _ => Err(UnknownRole),
        }
    }
}

/// There is no such role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a role is `user` or `admin`")]
pub struct UnknownRole;

/// A verified customer or operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// Who.
    pub user_id: UserId,
    /// By which login.
    pub session_id: SessionId,
    /// With which rights.
    pub role: Role,
}

/// A verified operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin(pub Actor);

/// A verified host-proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostProxy {
    /// The name that it gave itself: `host-proxy:` and its id.
    pub name: String,
}

impl HostProxy {
    /// What it calls itself as the owner of leases.
    #[must_use]
    pub fn id(&self) -> &str {
        self.name.strip_prefix("host-proxy:").unwrap_or(&self.name)
    }
}

/// Why there is no verified caller.
#[derive(Debug, thiserror::Error)]
pub enum AuthFailure {
    /// The credential is not accepted.
    #[error("the credential was not accepted")]
    Rejected,
    /// It could not be checked.
    #[error("the credential could not be checked")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Checks credentials.
#[async_trait]
pub trait Verifier: Send + Sync + 'static {
    /// Verifies an access token and that its login has not ended.
    async fn actor(&self, token: &str) -> Result<Actor, AuthFailure>;

    /// Verifies a host-proxy's token.
    async fn host_proxy(&self, token: &str) -> Result<HostProxy, AuthFailure>;
}

/// Lets the handlers of a router ask for [`Actor`] and [`HostProxy`].
pub fn with_verifier(router: Router, verifier: impl Verifier) -> Router {
    let verifier: Arc<dyn Verifier> = Arc::new(verifier);
    router.layer(Extension(verifier))
}

impl<S: Send + Sync> FromRequestParts<S> for Actor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let (verifier, token) = credential(parts)?;
        verifier.actor(&token).await.map_err(ApiError::from)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let actor = Actor::from_request_parts(parts, state).await?;
        if actor.role == Role::Admin { Ok(Self(actor)) } else { Err(ApiError::Forbidden) }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for HostProxy {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let (verifier, token) = credential(parts)?;
        verifier.host_proxy(&token).await.map_err(ApiError::from)
    }
}

impl From<AuthFailure> for ApiError {
    fn from(failure: AuthFailure) -> Self {
        match failure {
            AuthFailure::Rejected => Self::Unauthenticated,
            AuthFailure::Unavailable(source) => Self::Unavailable { source },
        }
    }
}

/// The verifier, and the token of `Authorization: Bearer` (RFC 6750 section 2.1).
fn credential(parts: &Parts) -> Result<(Arc<dyn Verifier>, String), ApiError> {
    let mut values = parts.headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(ApiError::Unauthenticated);
    };
    let token = value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.to_owned())
        .ok_or(ApiError::Unauthenticated)?;
    let verifier = parts.extensions.get::<Arc<dyn Verifier>>().ok_or(ApiError::Unauthenticated)?;
    Ok((Arc::clone(verifier), token))
}
