//! The audit log of what host-proxies do for their operators.

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use http::StatusCode;
use zlh_agent_protocol::internal::RecordAudit;
use zlh_api::{ApiError, Json};
use zlh_authn::HostProxy;
use zlh_storage::audit::{self, Act};

use super::{Platform, unavailable};

const MAX_ACTION_BYTES: usize = 64;
const MAX_TARGET_BYTES: usize = 128;
const MAX_DETAIL_BYTES: usize = 8192;

pub(super) fn router() -> Router<Platform> {
    Router::new().route("/internal/audit", post(record_audit))
}

/// Appends one act in the name of the host-proxy that tells it.
async fn record_audit(
    State(platform): State<Platform>,
    host: HostProxy,
    Json(body): Json<RecordAudit>,
) -> Result<StatusCode, ApiError> {
    for (field, length, most) in [
        ("action", body.action.len(), MAX_ACTION_BYTES),
        ("target", body.target.len(), MAX_TARGET_BYTES),
        ("detail", body.detail.to_string().len(), MAX_DETAIL_BYTES),
    ] {
        if length > most {
            return Err(ApiError::field(field, format!("at most {most} bytes")));
        }
    }
    let db = platform.database.open().await.map_err(unavailable)?;
    let act = Act {
        actor: &host.name,
        action: &body.action,
        target: &body.target,
        detail: body.detail,
        at_ms: (platform.clock)(),
    };
    audit::append(&db, &act).await.map_err(unavailable)?;
    Ok(StatusCode::NO_CONTENT)
}
