//! What this component reads and writes: it inserts instances and operations, and changes an instance when its
//! deletion begins, when its owner turns it on or off, and when an operator suspends it.

use std::collections::BTreeSet;

use zlh_agent_protocol::internal::OperationKind;
use zlh_ids::{ContainerType, InstanceId, OperationId, UserId, Vmid};
use zlh_storage::{Db, Row, StoreError, Value};

use crate::model::{self, Cursor, Instance, NewInstance, Operation, Power};

const INSTANCE: &str = "vmid, instance_id, name, spec, state, power, suspended_at, agent_address, created_at, ready_at";

/// An earlier request under the same key.
pub(crate) struct Repeated {
    pub(crate) operation: OperationId,
    pub(crate) vmid: Vmid,
    pub(crate) request_hash: String,
}

/// The request that the owner already made under the key.
pub(crate) async fn repeated(
    db: &Db,
    owner: UserId,
    key: &str,
) -> Result<Option<Repeated>, StoreError> {
    let row = db
        .query_one(
            "SELECT id, vmid, request_hash FROM operations WHERE owner_id = $1 AND idempotency_key = $2",
            &[Value::text(owner), key.into()],
        )
        .await?;
    let read = |row: Row| {
        Ok(Repeated { operation: row.parse(0)?, vmid: vmid(&row, 1)?, request_hash: row.get(2)? })
    };
    row.map(read).transpose()
}

/// How many instances the owner has.
pub(crate) async fn count_of(db: &Db, owner: UserId) -> Result<u32, StoreError> {
    let row = db
        .query_one("SELECT COUNT(*) FROM instances WHERE owner_id = $1", &[Value::text(owner)])
        .await?;
    row.map_or(Ok(0), |row| row.get(0))
}

/// Whether the owner had an instance of that number which is gone.
pub(crate) async fn was_own(db: &Db, owner: UserId, vmid: Vmid) -> Result<bool, StoreError> {
    let row = db
        .query_one(
            "SELECT instance_id FROM deleted_instances WHERE owner_id = $1 AND vmid = $2 LIMIT 1",
            &[Value::text(owner), vmid.get().into()],
        )
        .await?;
    Ok(row.is_some())
}

/// The number given out last to a container of that kind, and those that are taken.
pub(crate) async fn vmids(
    db: &Db,
    ctype: ContainerType,
) -> Result<(Option<u32>, BTreeSet<u32>), StoreError> {
    let last = db
        .query_one("SELECT last FROM vmid_counters WHERE ctype = $1", &[ctype.as_str().into()])
        .await?;
    let last = last.map(|row| row.get(0)).transpose()?;
    let range = model::vmids(ctype);
    let taken = db
        .query(
            "SELECT vmid FROM instances WHERE vmid BETWEEN $1 AND $2",
            &[(*range.start()).into(), (*range.end()).into()],
        )
        .await?;
    let taken = taken.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?;
    Ok((last, taken))
}

/// Inserts the instance under the number, and the operation that makes it.
pub(crate) async fn add_instance(
    db: &Db,
    vmid: Vmid,
    new: &NewInstance,
    spec: &str,
    now_ms: i64,
) -> Result<(InstanceId, OperationId), StoreError> {
    let (instance, operation) = (InstanceId::random(), OperationId::random());
    let ctype = new.spec.workload.ctype().as_str();
    db.execute(
        "INSERT INTO vmid_counters (ctype, last) VALUES ($1, $2) \
         ON CONFLICT (ctype) DO UPDATE SET last = excluded.last",
        &[ctype.into(), vmid.get().into()],
    )
    .await?;
    db.execute(
        "INSERT INTO instances (vmid, instance_id, owner_id, ctype, name, spec, state, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, 'creating', $7)",
        &[
            vmid.get().into(),
            Value::text(instance),
            Value::text(new.owner),
            ctype.into(),
            new.name.clone().unwrap_or_else(|| format!("{ctype}-{vmid}")).into(),
            spec.into(),
            now_ms.into(),
        ],
    )
    .await?;
    db.execute(
        "INSERT INTO operations (id, kind, vmid, instance_id, owner_id, status, idempotency_key, \
         request_hash, created_at, updated_at) VALUES ($1, 'create', $2, $3, $4, 'queued', $5, $6, $7, $7)",
        &[
            Value::text(operation),
            vmid.get().into(),
            Value::text(instance),
            Value::text(new.owner),
            new.idempotency_key.clone().into(),
            new.request_hash.as_str().into(),
            now_ms.into(),
        ],
    )
    .await?;
    Ok((instance, operation))
}

/// The owner's instance of that number.
pub(crate) async fn own_instance(
    db: &Db,
    owner: UserId,
    vmid: Vmid,
) -> Result<Option<Instance>, StoreError> {
    let row = db
        .query_one(
            &format!("SELECT {INSTANCE} FROM instances WHERE vmid = $1 AND owner_id = $2"),
            &[vmid.get().into(), Value::text(owner)],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    let mut found = vec![instance(&row)?];
    add_ports(db, owner, &mut found).await?;
    Ok(found.pop())
}

/// Anybody's instance of that number.
pub(crate) async fn any_instance(db: &Db, vmid: Vmid) -> Result<Option<Instance>, StoreError> {
    let row = db
        .query_one(
            &format!("SELECT {INSTANCE} FROM instances WHERE vmid = $1"),
            &[vmid.get().into()],
        )
        .await?;
    row.as_ref().map(instance).transpose()
}

/// Records since when the instance may not be used, or that it may.
pub(crate) async fn set_suspended(
    db: &Db,
    instance: InstanceId,
    since_ms: Option<i64>,
) -> Result<(), StoreError> {
    db.execute(
        "UPDATE instances SET suspended_at = $1 WHERE instance_id = $2",
        &[since_ms.into(), Value::text(instance)],
    )
    .await
}

/// The owner's instances after the cursor, newest last.
pub(crate) async fn own_instances(
    db: &Db,
    owner: UserId,
    after: Cursor,
    limit: u32,
) -> Result<Vec<Instance>, StoreError> {
    let rows = db
        .query(
            &format!(
                "SELECT {INSTANCE} FROM instances WHERE owner_id = $1 AND (created_at, vmid) > ($2, $3) \
                 ORDER BY created_at, vmid LIMIT $4"
            ),
            &[Value::text(owner), after.created_at_ms.into(), after.vmid.into(), limit.into()],
        )
        .await?;
    let mut found = rows.iter().map(instance).collect::<Result<Vec<_>, _>>()?;
    add_ports(db, owner, &mut found).await?;
    Ok(found)
}

/// Tells the owner's instances the ports of their games.
async fn add_ports(db: &Db, owner: UserId, found: &mut [Instance]) -> Result<(), StoreError> {
    if found.iter().all(|instance| instance.spec.workload.ctype() == ContainerType::Dev) {
        return Ok(());
    }
    let rows = db
        .query(
            "SELECT p.instance_id, p.port FROM ports p JOIN instances i ON i.instance_id = p.instance_id \
             WHERE i.owner_id = $1 AND p.purpose = 'game' ORDER BY p.port",
            &[Value::text(owner)],
        )
        .await?;
    for row in &rows {
        let (id, port): (InstanceId, u16) = (row.parse(0)?, row.get(1)?);
        if let Some(instance) = found.iter_mut().find(|instance| instance.instance_id == id) {
            instance.ports.push(port);
        }
    }
    Ok(())
}

/// Records whether the owner wants the container to run; `anew`, that it is begun once more.
pub(crate) async fn set_power(
    db: &Db,
    instance: InstanceId,
    power: Power,
    anew: bool,
) -> Result<(), StoreError> {
    db.execute(
        "UPDATE instances SET power = $1, boots = boots + $2 WHERE instance_id = $3",
        &[power.as_str().into(), u32::from(anew).into(), Value::text(instance)],
    )
    .await
}

/// Begins the deletion of the instance.
pub(crate) async fn begin_deletion(
    db: &Db,
    owner: UserId,
    instance: &Instance,
    now_ms: i64,
) -> Result<OperationId, StoreError> {
    let operation = OperationId::random();
    db.execute(
        "UPDATE instances SET state = 'deleting' WHERE instance_id = $1",
        &[Value::text(instance.instance_id)],
    )
    .await?;
    db.execute(
        "INSERT INTO operations (id, kind, vmid, instance_id, owner_id, status, created_at, updated_at) \
         VALUES ($1, 'delete', $2, $3, $4, 'queued', $5, $5)",
        &[
            Value::text(operation),
            instance.vmid.get().into(),
            Value::text(instance.instance_id),
            Value::text(owner),
            now_ms.into(),
        ],
    )
    .await?;
    Ok(operation)
}

/// The operation that deletes the instance.
pub(crate) async fn deletion(
    db: &Db,
    instance: InstanceId,
) -> Result<Option<OperationId>, StoreError> {
    let row = db
        .query_one(
            "SELECT id FROM operations WHERE instance_id = $1 AND kind = 'delete' \
             ORDER BY created_at DESC LIMIT 1",
            &[Value::text(instance)],
        )
        .await?;
    row.map(|row| row.parse(0)).transpose()
}

/// The owner's operation.
pub(crate) async fn own_operation(
    db: &Db,
    owner: UserId,
    id: OperationId,
) -> Result<Option<Operation>, StoreError> {
    let row = db
        .query_one(
            "SELECT kind, vmid, status, phase, message, error, created_at, updated_at FROM operations \
             WHERE id = $1 AND owner_id = $2",
            &[Value::text(id), Value::text(owner)],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    let kind = match row.get::<String>(0)?.as_str() {
        "create" => OperationKind::Create,
        _ => OperationKind::Delete,
    };
    Ok(Some(Operation {
        id,
        kind,
        vmid: vmid(&row, 1)?,
        status: row.get(2)?,
        phase: row.get(3)?,
        message: row.get(4)?,
        error: row.get(5)?,
        created_at_ms: row.get(6)?,
        updated_at_ms: row.get(7)?,
    }))
}

fn instance(row: &Row) -> Result<Instance, StoreError> {
    Ok(Instance {
        vmid: vmid(row, 0)?,
        instance_id: row.parse(1)?,
        name: row.get(2)?,
        spec: row.json(3)?,
        state: row.parse(4)?,
        power: row.parse(5)?,
        suspended: row.get::<Option<i64>>(6)?.is_some(),
        agent_address: row.get(7)?,
        ports: Vec::new(),
        created_at_ms: row.get(8)?,
        ready_at_ms: row.get(9)?,
    })
}

fn vmid(row: &Row, column: usize) -> Result<Vmid, StoreError> {
    Vmid::new(row.get(column)?).ok_or(StoreError::Corrupt { column, wanted: "a vmid" })
}
