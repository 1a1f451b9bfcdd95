//! What this component reads and writes: it inserts instances and operations, and changes an instance once,
//! when its deletion begins.

use std::collections::BTreeSet;

use zlh_agent_protocol::internal::OperationKind;
use zlh_ids::{InstanceId, OperationId, UserId, Vmid};
use zlh_storage::{Db, Row, StoreError, Value};

use crate::model::{Cursor, DEV_VMIDS, Instance, NewInstance, Operation};

const INSTANCE: &str = "vmid, instance_id, name, spec, state, suspended_at, created_at, ready_at";

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

/// The number given out last to a dev container, and those that are taken.
pub(crate) async fn dev_vmids(db: &Db) -> Result<(Option<u32>, BTreeSet<u32>), StoreError> {
    let last = db.query_one("SELECT last FROM vmid_counters WHERE ctype = 'dev'", &[]).await?;
    let last = last.map(|row| row.get(0)).transpose()?;
    let taken = db
        .query(
            "SELECT vmid FROM instances WHERE vmid BETWEEN $1 AND $2",
            &[(*DEV_VMIDS.start()).into(), (*DEV_VMIDS.end()).into()],
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
    let ctype = new.spec.ctype.as_str();
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
    row.as_ref().map(instance).transpose()
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
    rows.iter().map(instance).collect()
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
        suspended: row.get::<Option<i64>>(5)?.is_some(),
        created_at_ms: row.get(6)?,
        ready_at_ms: row.get(7)?,
    })
}

fn vmid(row: &Row, column: usize) -> Result<Vmid, StoreError> {
    Vmid::new(row.get(column)?).ok_or(StoreError::Corrupt { column, wanted: "a vmid" })
}
