-- Owner: platform.
-- What a port is for. A container's agent has one, which only the control plane speaks to; the others are its game's.
ALTER TABLE ports ADD COLUMN purpose TEXT NOT NULL DEFAULT 'agent' CHECK (purpose IN ('agent', 'game'));
-- Owner: servers. What its owner wants of the container, whatever runs in it. A container that was begun fewer times
-- than this is begun anew.
ALTER TABLE instances ADD COLUMN power TEXT NOT NULL DEFAULT 'on' CHECK (power IN ('on', 'off'));
ALTER TABLE instances ADD COLUMN boots BIGINT NOT NULL DEFAULT 0;
