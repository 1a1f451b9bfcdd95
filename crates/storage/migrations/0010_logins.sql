-- Owner: auth.
-- Where a session was started from, and when it was last continued.
ALTER TABLE sessions ADD COLUMN network TEXT;
ALTER TABLE sessions ADD COLUMN user_agent TEXT;
ALTER TABLE sessions ADD COLUMN used_at BIGINT;
-- Wrong passwords, counted by whose they were and where they came from.
CREATE TABLE login_failures (
    scope TEXT PRIMARY KEY,
    failures BIGINT NOT NULL,
    last_at BIGINT NOT NULL
);
CREATE INDEX login_failures_by_age ON login_failures (last_at);
