-- Owner: platform.
-- Host-proxies that share the polling, and until when each is taken for alive.
CREATE TABLE pollers (
    name TEXT PRIMARY KEY,
    alive_until BIGINT NOT NULL
);
-- Which of them polls which part of the agents.
CREATE TABLE poll_shards (
    shard BIGINT PRIMARY KEY,
    poller TEXT NOT NULL REFERENCES pollers (name)
);
-- The host-proxy on whose machine the container is, from its first recorded step on: no other can act for it.
ALTER TABLE instances ADD COLUMN host TEXT;
