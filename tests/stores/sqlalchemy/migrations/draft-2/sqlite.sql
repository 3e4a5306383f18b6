CREATE TABLE hermes_sessions (
    owner VARCHAR(255) NOT NULL,
    id VARCHAR(256) NOT NULL,
    next_seq BIGINT NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    PRIMARY KEY (owner, id)
)
 WITHOUT ROWID;

CREATE TABLE hermes_messages (
    owner VARCHAR(255) NOT NULL,
    session_id VARCHAR(256) NOT NULL,
    seq BIGINT NOT NULL,
    turn_id VARCHAR(255) NOT NULL,
    body TEXT NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    PRIMARY KEY (owner, session_id, seq),
    FOREIGN KEY(owner, session_id) REFERENCES hermes_sessions (owner, id) ON DELETE CASCADE
)
 WITHOUT ROWID;

CREATE INDEX ix_hermes_messages_turn_id ON hermes_messages (owner, session_id, turn_id);
