CREATE TABLE hermes_keys (
    owner VARCHAR(255) COLLATE "C" NOT NULL,
    name VARCHAR(255) COLLATE "C" NOT NULL,
    session_id VARCHAR(256) COLLATE "C" NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (owner, name)
);

CREATE INDEX ix_hermes_keys_session_id ON hermes_keys (owner, session_id);

CREATE TABLE hermes_sessions (
    owner VARCHAR(255) COLLATE "C" NOT NULL,
    id VARCHAR(256) COLLATE "C" NOT NULL,
    next_seq BIGINT NOT NULL,
    turns BIGINT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    deleted_at TIMESTAMP WITH TIME ZONE,
    first_seq BIGINT DEFAULT '0' NOT NULL,
    archived BIGINT DEFAULT '0' NOT NULL,
    fence BIGINT DEFAULT '0' NOT NULL,
    leased_until BIGINT DEFAULT '0' NOT NULL,
    title TEXT,
    parent_id VARCHAR(256) COLLATE "C",
    PRIMARY KEY (owner, id)
);

CREATE TABLE hermes_archive (
    owner VARCHAR(255) COLLATE "C" NOT NULL,
    session_id VARCHAR(256) COLLATE "C" NOT NULL,
    number BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    turn_id VARCHAR(255) COLLATE "C" NOT NULL,
    body TEXT NOT NULL,
    reason VARCHAR(20) NOT NULL,
    archived_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (owner, session_id, number),
    FOREIGN KEY(owner, session_id) REFERENCES hermes_sessions (owner, id) ON DELETE CASCADE
);

CREATE INDEX ix_hermes_archive_turn_id ON hermes_archive (owner, session_id, turn_id);

CREATE TABLE hermes_messages (
    owner VARCHAR(255) COLLATE "C" NOT NULL,
    session_id VARCHAR(256) COLLATE "C" NOT NULL,
    seq BIGINT NOT NULL,
    turn_id VARCHAR(255) COLLATE "C" NOT NULL,
    body TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (owner, session_id, seq),
    FOREIGN KEY(owner, session_id) REFERENCES hermes_sessions (owner, id) ON DELETE CASCADE
);

CREATE INDEX ix_hermes_messages_turn_id ON hermes_messages (owner, session_id, turn_id);

CREATE TABLE hermes_counters (
    name VARCHAR(20) NOT NULL,
    value BIGINT NOT NULL,
    PRIMARY KEY (name)
);
