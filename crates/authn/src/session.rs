//! Whether a login still holds. The rows are `auth`'s; everybody reads them, so that a logout ends what came
//! of the login at once and not when its tokens expire.

use zlh_ids::{SessionId, UserId};
use zlh_storage::{Db, StoreError, Value};

use crate::actor::Role;

/// The user's role, if the login has neither ended nor expired and the account is not disabled.
///
/// # Errors
///
/// [`StoreError`] when the database does not answer.
pub async fn live_role(
    db: &Db,
    session: SessionId,
    user: UserId,
    now_ms: i64,
) -> Result<Option<Role>, StoreError> {
    let row = db
        .query_one(
            "SELECT u.role FROM sessions s JOIN users u ON u.id = s.user_id \
             WHERE s.id = $1 AND s.user_id = $2 AND s.ended_at IS NULL AND s.expires_at > $3 \
             AND u.disabled_at IS NULL",
            &[Value::text(session), Value::text(user), now_ms.into()],
        )
        .await?;
    row.map(|row| row.parse(0)).transpose()
}
