//! What this component reads and writes: everything of an instance from its insertion on.

use std::collections::HashSet;

use zlh_agent_protocol::internal::{AgentRoute, HostPower};
use zlh_ids::{InstanceId, Vmid};
use zlh_storage::{Db, Row, StoreError};

pub(crate) mod operations;
pub(crate) mod shards;

/// The agents of active instances, in order of vmid.
pub(crate) async fn agents(db: &Db) -> Result<Vec<AgentRoute>, StoreError> {
    let rows = db
        .query(
            "SELECT vmid, instance_id, ctype, agent_address, \
             CASE WHEN suspended_at IS NULL THEN power ELSE 'off' END, boots FROM instances \
             WHERE state = 'active' AND agent_address IS NOT NULL ORDER BY vmid",
            &[],
        )
        .await?;
    let read = |row: &Row| {
        Ok(AgentRoute {
            vmid: vmid(row, 0)?,
            instance_id: row.parse(1)?,
            ctype: row.parse(2)?,
            agent_address: row.get(3)?,
            power: match row.get::<String>(4)?.as_str() {
                "off" => HostPower::Off,
                _ => HostPower::On { boots: row.get(5)? },
            },
        })
    };
    rows.iter().map(read).collect()
}

/// Every instance that there is.
pub(crate) async fn instances(db: &Db) -> Result<HashSet<(Vmid, InstanceId)>, StoreError> {
    let rows = db.query("SELECT vmid, instance_id FROM instances", &[]).await?;
    rows.iter().map(|row| Ok((vmid(row, 0)?, row.parse(1)?))).collect()
}

fn vmid(row: &Row, column: usize) -> Result<Vmid, StoreError> {
    Vmid::new(row.get(column)?).ok_or(StoreError::Corrupt { column, wanted: "a vmid" })
}
