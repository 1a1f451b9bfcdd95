-- Owner: platform.
CREATE TABLE port_counters (
    pool TEXT PRIMARY KEY,
    -- The last port given out. It outlives the instance that had it, so that a port which turned out to be
    -- taken by somebody else is not the next one again.
    last BIGINT NOT NULL
);
-- For finding what has expired.
CREATE INDEX sessions_by_expiry ON sessions (expires_at, id);
CREATE INDEX used_tokens_by_expiry ON used_tokens (expires_at);
CREATE INDEX ide_sessions_by_expiry ON ide_sessions (expires_at);
-- For telling an owner that it is gone.
CREATE INDEX deleted_instances_by_owner ON deleted_instances (owner_id, vmid);
