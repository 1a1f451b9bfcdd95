//! Operations, their leases, and the instances and ports that they change.

use std::collections::BTreeSet;
use std::str::FromStr;

use zlh_agent_protocol::internal::{Operation, OperationKind, Placement, Step};
use zlh_ids::{InstanceId, LeaseId, OperationId, Vmid};
use zlh_storage::{Db, StoreError, Value};

use super::vmid;

/// How long an operation can be asked about, and its idempotency key holds: 30 days.
const KEPT_MS: i64 = 30 * 86_400_000;
/// Operations that are forgotten when one ends: more than one, so that they grow fewer.
const FORGOTTEN_AT_ONCE: i64 = 20;
/// The one pool of ports that there is so far.
const PORT_POOL: &str = "containers";

/// How far an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Queued,
    Running,
    Undoing,
    Succeeded,
    Failed,
}

impl Status {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Undoing => "undoing",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}

impl FromStr for Status {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let all = [Self::Queued, Self::Running, Self::Undoing, Self::Succeeded, Self::Failed];
        all.into_iter().find(|status| status.as_str() == text).ok_or(())
    }
}

/// An operation that somebody has, or had last, the lease of.
pub(crate) struct Held {
    pub(crate) kind: OperationKind,
    pub(crate) status: Status,
    pub(crate) vmid: Vmid,
    pub(crate) instance_id: InstanceId,
    pub(crate) error: Option<String>,
}

/// The oldest operation that is free, or whose lease ended, or which the owner left behind. Of one instance
/// only the oldest open operation counts, and once its container is on a machine, only that machine's
/// host-proxy.
pub(crate) async fn waiting(
    db: &Db,
    owner: &str,
    working_on: &[OperationId],
    now_ms: i64,
) -> Result<Option<OperationId>, StoreError> {
    let limit = i64::try_from(working_on.len()).unwrap_or(i64::MAX).saturating_add(1);
    let rows = db
        .query(
            "SELECT o.id FROM operations o WHERE (o.status = 'queued' OR (o.status IN ('running', 'undoing') \
             AND (o.lease_expires_at <= $1 OR o.lease_owner = $2))) \
             AND NOT EXISTS (SELECT 1 FROM instances i WHERE i.instance_id = o.instance_id AND i.host <> $2) \
             AND NOT EXISTS (SELECT 1 FROM operations p WHERE p.instance_id = o.instance_id \
             AND p.status IN ('queued', 'running', 'undoing') AND (p.created_at, p.id) < (o.created_at, o.id)) \
             ORDER BY o.created_at, o.id LIMIT $3",
            &[now_ms.into(), owner.into(), limit.into()],
        )
        .await?;
    for row in rows {
        let id = row.parse(0)?;
        if !working_on.contains(&id) {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// Gives the owner a new lease, which ends any other.
pub(crate) async fn lease(
    db: &Db,
    id: OperationId,
    owner: &str,
    now_ms: i64,
    expires_at_ms: i64,
) -> Result<Operation, StoreError> {
    let lease = LeaseId::random();
    db.execute(
        "UPDATE operations SET status = CASE status WHEN 'undoing' THEN 'undoing' ELSE 'running' END, \
         lease_id = $1, lease_owner = $2, lease_expires_at = $3, updated_at = $4 WHERE id = $5",
        &[Value::text(lease), owner.into(), expires_at_ms.into(), now_ms.into(), Value::text(id)],
    )
    .await?;
    let row = db
        .query_one(
            "SELECT o.kind, o.vmid, o.instance_id, i.spec, o.status, o.error FROM operations o \
             JOIN instances i ON i.instance_id = o.instance_id WHERE o.id = $1",
            &[Value::text(id)],
        )
        .await?
        .ok_or(StoreError::Corrupt { column: 2, wanted: "an instance" })?;
    let steps = db
        .query(
            "SELECT name FROM operation_steps WHERE operation_id = $1 ORDER BY seq",
            &[Value::text(id)],
        )
        .await?;
    let instance_id = row.parse(2)?;
    let status: Status = row.parse(4)?;
    let error: Option<String> = row.get(5)?;
    Ok(Operation {
        id,
        kind: kind(&row.get::<String>(0)?)?,
        lease,
        vmid: vmid(&row, 1)?,
        instance_id,
        spec: row.json(3)?,
        undoing: error.filter(|_| status == Status::Undoing),
        steps: steps
            .iter()
            .map(|row| Ok(Step { name: row.get(0)? }))
            .collect::<Result<_, StoreError>>()?,
        ports: ports_of(db, instance_id).await?,
    })
}

/// The operation whose last lease this is.
pub(crate) async fn leased(
    db: &Db,
    id: OperationId,
    lease: LeaseId,
) -> Result<Option<Held>, StoreError> {
    let row = db
        .query_one(
            "SELECT kind, status, vmid, instance_id, error FROM operations WHERE id = $1 AND lease_id = $2",
            &[Value::text(id), Value::text(lease)],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Held {
        kind: kind(&row.get::<String>(0)?)?,
        status: row.parse(1)?,
        vmid: vmid(&row, 2)?,
        instance_id: row.parse(3)?,
        error: row.get(4)?,
    }))
}

/// Extends the lease; no message leaves the last one.
pub(crate) async fn extend(
    db: &Db,
    id: OperationId,
    expires_at_ms: i64,
    message: Option<String>,
    now_ms: i64,
) -> Result<(), StoreError> {
    db.execute(
        "UPDATE operations SET lease_expires_at = $1, message = COALESCE($2, message), updated_at = $3 \
         WHERE id = $4",
        &[expires_at_ms.into(), message.into(), now_ms.into(), Value::text(id)],
    )
    .await
}

/// Records the step, once.
pub(crate) async fn add_step(
    db: &Db,
    id: OperationId,
    step: &str,
    now_ms: i64,
) -> Result<(), StoreError> {
    db.execute(
        "INSERT INTO operation_steps (operation_id, seq, name, recorded_at) \
         SELECT $1, COALESCE(MAX(seq), 0) + 1, $2, CAST($3 AS BIGINT) FROM operation_steps WHERE operation_id = $1 \
         ON CONFLICT (operation_id, name) DO NOTHING",
        &[Value::text(id), step.into(), now_ms.into()],
    )
    .await?;
    db.execute(
        "UPDATE instances SET host = (SELECT lease_owner FROM operations WHERE id = $1) \
         WHERE host IS NULL AND instance_id = (SELECT instance_id FROM operations WHERE id = $1)",
        &[Value::text(id)],
    )
    .await?;
    db.execute(
        "UPDATE operations SET phase = $1, updated_at = $2 WHERE id = $3",
        &[step.into(), now_ms.into(), Value::text(id)],
    )
    .await
}

/// Marks the operation as failed and being undone; the first reason stays.
pub(crate) async fn turn_around(
    db: &Db,
    id: OperationId,
    error: &str,
    now_ms: i64,
) -> Result<(), StoreError> {
    db.execute(
        "UPDATE operations SET status = 'undoing', error = COALESCE(error, $1), updated_at = $2 WHERE id = $3",
        &[error.into(), now_ms.into(), Value::text(id)],
    )
    .await
}

/// Ends the operation.
pub(crate) async fn end(
    db: &Db,
    id: OperationId,
    status: Status,
    now_ms: i64,
) -> Result<(), StoreError> {
    db.execute(
        "UPDATE operations SET status = $1, updated_at = $2 WHERE id = $3",
        &[status.as_str().into(), now_ms.into(), Value::text(id)],
    )
    .await
}

/// Forgets some operations that ended long ago, with their steps.
pub(crate) async fn forget_ended(db: &Db, now_ms: i64) -> Result<(), StoreError> {
    let oldest = [now_ms.saturating_sub(KEPT_MS).into(), FORGOTTEN_AT_ONCE.into()];
    db.execute(
        "DELETE FROM operation_steps WHERE operation_id IN (SELECT id FROM operations \
         WHERE status IN ('succeeded', 'failed') AND created_at < $1 AND updated_at < $1 \
         ORDER BY created_at, id LIMIT $2)",
        &oldest,
    )
    .await?;
    db.execute(
        "DELETE FROM operations WHERE id IN (SELECT id FROM operations \
         WHERE status IN ('succeeded', 'failed') AND created_at < $1 AND updated_at < $1 \
         ORDER BY created_at, id LIMIT $2) \
         AND NOT EXISTS (SELECT 1 FROM operation_steps WHERE operation_id = operations.id)",
        &oldest,
    )
    .await
}

/// Makes the instance active at its place.
pub(crate) async fn activate(
    db: &Db,
    instance_id: InstanceId,
    placement: &Placement,
    now_ms: i64,
) -> Result<(), StoreError> {
    db.execute(
        "UPDATE instances SET state = 'active', agent_address = $1, ide_address = $2, ready_at = $3 \
         WHERE instance_id = $4",
        &[
            placement.agent_address.as_str().into(),
            placement.ide_address.clone().into(),
            now_ms.into(),
            Value::text(instance_id),
        ],
    )
    .await
}

/// Moves the instance to the archive, which frees its vmid and its ports.
pub(crate) async fn archive(
    db: &Db,
    instance_id: InstanceId,
    reason: &str,
    now_ms: i64,
) -> Result<(), StoreError> {
    db.execute(
        "INSERT INTO deleted_instances \
         (instance_id, vmid, owner_id, ctype, name, spec, reason, created_at, deleted_at) \
         SELECT instance_id, vmid, owner_id, ctype, name, spec, CAST($2 AS TEXT), created_at, \
         CAST($3 AS BIGINT) FROM instances WHERE instance_id = $1",
        &[Value::text(instance_id), reason.into(), now_ms.into()],
    )
    .await?;
    db.execute("DELETE FROM ports WHERE instance_id = $1", &[Value::text(instance_id)]).await?;
    db.execute("DELETE FROM instances WHERE instance_id = $1", &[Value::text(instance_id)]).await
}

/// The instance's ports: its agent's, then those of its game, ascending.
pub(crate) async fn ports_of(db: &Db, instance_id: InstanceId) -> Result<Vec<u16>, StoreError> {
    let rows = db
        .query(
            "SELECT port FROM ports WHERE instance_id = $1 ORDER BY purpose, port",
            &[Value::text(instance_id)],
        )
        .await?;
    rows.iter().map(|row| row.get(0)).collect()
}

/// Every port that is in use, and the one given out last, whoever had it.
pub(crate) async fn taken_ports(db: &Db) -> Result<(BTreeSet<u16>, Option<u16>), StoreError> {
    let rows = db.query("SELECT port FROM ports", &[]).await?;
    let taken = rows.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?;
    let last =
        db.query_one("SELECT last FROM port_counters WHERE pool = $1", &[PORT_POOL.into()]).await?;
    Ok((taken, last.map(|row| row.get(0)).transpose()?))
}

/// Gives more ports to the instance: its first to its agent, the others to its game. After the last of them the next
/// ones begin.
pub(crate) async fn add_ports(
    db: &Db,
    instance_id: InstanceId,
    ports: &[u16],
    now_ms: i64,
) -> Result<(), StoreError> {
    let mut purpose = if ports_of(db, instance_id).await?.is_empty() { "agent" } else { "game" };
    for port in ports {
        db.execute(
            "INSERT INTO ports (port, instance_id, purpose, allocated_at) VALUES ($1, $2, $3, $4)",
            &[u32::from(*port).into(), Value::text(instance_id), purpose.into(), now_ms.into()],
        )
        .await?;
        purpose = "game";
    }
    let Some(last) = ports.last() else { return Ok(()) };
    db.execute(
        "INSERT INTO port_counters (pool, last) VALUES ($1, $2) \
         ON CONFLICT (pool) DO UPDATE SET last = excluded.last",
        &[PORT_POOL.into(), u32::from(*last).into()],
    )
    .await
}

fn kind(text: &str) -> Result<OperationKind, StoreError> {
    match text {
        "create" => Ok(OperationKind::Create),
        "delete" => Ok(OperationKind::Delete),
        _ => Err(StoreError::Corrupt { column: 0, wanted: "a kind of operation" }),
    }
}
