//! What this component reads.

use zlh_ids::{UserId, Vmid};
use zlh_storage::{Db, StoreError, Value};

use crate::model::DevContainer;

/// The caller's dev container of that number, unless it is suspended or being deleted.
pub(crate) async fn own_dev(
    db: &Db,
    owner: UserId,
    vmid: Vmid,
) -> Result<Option<DevContainer>, StoreError> {
    let row = db
        .query_one(
            "SELECT instance_id, CASE state WHEN 'active' THEN agent_address END FROM instances \
             WHERE vmid = $1 AND owner_id = $2 AND ctype = 'dev' AND suspended_at IS NULL \
             AND state <> 'deleting'",
            &[vmid.get().into(), Value::text(owner)],
        )
        .await?;
    row.map(|row| Ok(DevContainer { instance_id: row.parse(0)?, agent_address: row.get(1)? }))
        .transpose()
}
