//! What this component reads.

use zlh_ids::{InstanceId, UserId, Vmid};
use zlh_storage::{Db, StoreError, Value};

/// The caller's dev container of that number, unless it is suspended or being deleted: which life of it, and
/// where its agent is once it is here.
pub(crate) async fn own_dev(
    db: &Db,
    owner: UserId,
    vmid: Vmid,
) -> Result<Option<(InstanceId, Option<String>)>, StoreError> {
    let row = db
        .query_one(
            "SELECT instance_id, CASE state WHEN 'active' THEN agent_address END FROM instances \
             WHERE vmid = $1 AND owner_id = $2 AND ctype = 'dev' AND suspended_at IS NULL \
             AND state <> 'deleting'",
            &[vmid.get().into(), Value::text(owner)],
        )
        .await?;
    row.map(|row| Ok((row.parse(0)?, row.get(1)?))).transpose()
}
