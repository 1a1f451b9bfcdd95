//! A verifier for router tests: tokens are plain text, logins are looked up as they really are.

use async_trait::async_trait;
use zlh_ids::{SessionId, UserId};
use zlh_storage::Database;

use crate::actor::{Actor, AuthFailure, HostProxy, Verifier};
use crate::session::live_role;

/// Takes `access.<user id>.<session id>` and `internal.<name>`.
pub struct TestVerifier {
    /// Where logins are looked up.
    pub database: Database,
    /// Unix milliseconds.
    pub now_ms: i64,
}

/// The token that proves this login to a [`TestVerifier`].
#[must_use]
pub fn access_token(user: UserId, session: SessionId) -> String {
    format!("access.{user}.{session}")
}

#[async_trait]
impl Verifier for TestVerifier {
    async fn actor(&self, token: &str) -> Result<Actor, AuthFailure> {
        let parse = || {
            let (user, session) = token.strip_prefix("access.")?.split_once('.')?;
            Some((user.parse().ok()?, session.parse().ok()?))
        };
        let (user_id, session_id) = parse().ok_or(AuthFailure::Rejected)?;
        let unavailable = |error: zlh_storage::StoreError| AuthFailure::Unavailable(error.into());
        let db = self.database.open().await.map_err(unavailable)?;
        let role = live_role(&db, session_id, user_id, self.now_ms).await.map_err(unavailable)?;
        Ok(Actor { user_id, session_id, role: role.ok_or(AuthFailure::Rejected)? })
    }

    async fn host_proxy(&self, token: &str) -> Result<HostProxy, AuthFailure> {
        let name = token.strip_prefix("internal.").ok_or(AuthFailure::Rejected)?;
        Ok(HostProxy { name: name.to_owned() })
    }
}
