//! What this component reads and writes: everything of an instance from its insertion on.

use std::collections::HashSet;

use zlh_agent_protocol::internal::{AgentRoute, HostPower, Machine};
use zlh_ids::{InstanceId, Vmid};
use zlh_storage::{Db, Row, StoreError};

pub(crate) mod operations;
pub(crate) mod shards;

const AGENTS: &str = "SELECT i.vmid, i.instance_id, i.ctype, i.agent_address, i.ide_address, i.host, g.url, \
     CASE WHEN i.suspended_at IS NULL THEN i.power ELSE 'off' END, i.boots \
     FROM instances i LEFT JOIN gateways g ON g.host = i.host \
     WHERE i.state = 'active' AND i.agent_address IS NOT NULL";

/// The agents of active instances, in order of vmid.
pub(crate) async fn agents(db: &Db) -> Result<Vec<AgentRoute>, StoreError> {
    let rows = db.query(&format!("{AGENTS} ORDER BY i.vmid"), &[]).await?;
    rows.iter().map(agent_route).collect()
}

/// One of them.
pub(crate) async fn agent(db: &Db, vmid: Vmid) -> Result<Option<AgentRoute>, StoreError> {
    let row = db.query_one(&format!("{AGENTS} AND i.vmid = $1"), &[vmid.get().into()]).await?;
    row.as_ref().map(agent_route).transpose()
}

fn agent_route(row: &Row) -> Result<AgentRoute, StoreError> {
    Ok(AgentRoute {
        vmid: vmid(row, 0)?,
        instance_id: row.parse(1)?,
        ctype: row.parse(2)?,
        agent_address: row.get(3)?,
        ide_address: row.get(4)?,
        machine: Machine { host: row.get(5)?, gateway_url: row.get(6)? },
        power: match row.get::<String>(7)?.as_str() {
            "off" => HostPower::Off,
            _ => HostPower::On { boots: row.get(8)? },
        },
    })
}

/// Notes where the host-proxy's gateway is, or that it has none. Written only where that is another: asked
/// every few seconds.
pub(crate) async fn set_gateway(db: &Db, host: &str, url: Option<&str>) -> Result<(), StoreError> {
    let Some(url) = url else {
        return db.execute("DELETE FROM gateways WHERE host = $1", &[host.into()]).await;
    };
    db.execute(
        "INSERT INTO gateways (host, url) VALUES ($1, $2) \
         ON CONFLICT (host) DO UPDATE SET url = excluded.url WHERE gateways.url <> excluded.url",
        &[host.into(), url.into()],
    )
    .await
}

/// Every instance that there is.
pub(crate) async fn instances(db: &Db) -> Result<HashSet<(Vmid, InstanceId)>, StoreError> {
    let rows = db.query("SELECT vmid, instance_id FROM instances", &[]).await?;
    rows.iter().map(|row| Ok((vmid(row, 0)?, row.parse(1)?))).collect()
}

fn vmid(row: &Row, column: usize) -> Result<Vmid, StoreError> {
    Vmid::new(row.get(column)?).ok_or(StoreError::Corrupt { column, wanted: "a vmid" })
}
