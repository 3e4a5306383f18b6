CREATE TABLE hermes_sessions (
    owner VARCHAR(255) COLLATE "C" NOT NULL,
    id VARCHAR(256) COLLATE "C" NOT NULL,
    next_seq BIGINT NOT NULL,
    turns BIGINT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    deleted_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (owner, id)
);

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
