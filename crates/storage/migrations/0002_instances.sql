-- servers inserts instances and operations; from then on only platform changes them.
CREATE TABLE vmid_counters (
    ctype TEXT PRIMARY KEY,
    -- The last number given out, so that one is not used again right after it was freed.
    last BIGINT NOT NULL
);
CREATE TABLE instances (
    vmid BIGINT PRIMARY KEY,
    instance_id TEXT NOT NULL UNIQUE,
    owner_id TEXT NOT NULL REFERENCES users (id),
    ctype TEXT NOT NULL CHECK (ctype IN ('game', 'dev')),
    name TEXT NOT NULL,
    spec TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('creating', 'active', 'deleting')),
    suspended_at BIGINT,
    agent_address TEXT,
    ide_address TEXT,
    created_at BIGINT NOT NULL,
    ready_at BIGINT
);
CREATE INDEX instances_by_owner ON instances (owner_id, vmid);
CREATE TABLE deleted_instances (
    instance_id TEXT PRIMARY KEY,
    vmid BIGINT NOT NULL,
    owner_id TEXT NOT NULL,
    ctype TEXT NOT NULL,
    name TEXT NOT NULL,
    spec TEXT NOT NULL,
    reason TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    deleted_at BIGINT NOT NULL
);
CREATE TABLE ports (
    port BIGINT PRIMARY KEY,
    instance_id TEXT NOT NULL REFERENCES instances (instance_id),
    allocated_at BIGINT NOT NULL
);
CREATE INDEX ports_by_instance ON ports (instance_id);
CREATE TABLE operations (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('create', 'delete')),
    vmid BIGINT NOT NULL,
    instance_id TEXT NOT NULL,
    owner_id TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('queued', 'running', 'undoing', 'succeeded', 'failed')),
    phase TEXT,
    message TEXT,
    error TEXT,
    idempotency_key TEXT,
    -- SHA-256 of the request, to tell a repetition from another request under the same key.
    request_hash TEXT,
    lease_id TEXT,
    lease_owner TEXT,
    lease_expires_at BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (owner_id, idempotency_key)
);
CREATE INDEX operations_by_status ON operations (status, created_at);
CREATE INDEX operations_by_instance ON operations (instance_id);
CREATE TABLE operation_steps (
    operation_id TEXT NOT NULL REFERENCES operations (id),
    seq BIGINT NOT NULL,
    name TEXT NOT NULL,
    recorded_at BIGINT NOT NULL,
    PRIMARY KEY (operation_id, seq),
    UNIQUE (operation_id, name)
);
