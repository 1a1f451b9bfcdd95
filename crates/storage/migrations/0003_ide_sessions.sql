-- Owner: tokens.
CREATE TABLE used_tokens (
    jti TEXT PRIMARY KEY,
    expires_at BIGINT NOT NULL
);
CREATE TABLE ide_sessions (
    -- SHA-256 of the cookie's secret.
    hash TEXT PRIMARY KEY,
    vmid BIGINT NOT NULL,
    instance_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
