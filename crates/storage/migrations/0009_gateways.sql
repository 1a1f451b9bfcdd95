-- Owner: platform.
-- Host-proxies with a gateway: where others reach what only its own machine does.
CREATE TABLE gateways (
    -- As in instances.host.
    host TEXT PRIMARY KEY,
    url TEXT NOT NULL
);
