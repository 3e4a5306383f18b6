CREATE TABLE hermes_sessions (
    owner VARBINARY(1020) NOT NULL,
    id VARBINARY(1024) NOT NULL,
    next_seq BIGINT NOT NULL,
    turns BIGINT NOT NULL,
    created_at TIMESTAMP NOT NULL DEFAULT (now()),
    updated_at TIMESTAMP NOT NULL DEFAULT (now()),
    deleted_at TIMESTAMP NULL,
    PRIMARY KEY (owner, id)
)ENGINE=InnoDB;

CREATE TABLE hermes_messages (
    owner VARBINARY(1020) NOT NULL,
    session_id VARBINARY(1024) NOT NULL,
    seq BIGINT NOT NULL,
    turn_id VARBINARY(1020) NOT NULL,
    body LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    created_at TIMESTAMP NOT NULL DEFAULT (now()),
    PRIMARY KEY (owner, session_id, seq),
    FOREIGN KEY(owner, session_id) REFERENCES hermes_sessions (owner, id) ON DELETE CASCADE
)ENGINE=InnoDB;

CREATE INDEX ix_hermes_messages_turn_id ON hermes_messages (owner, session_id, turn_id);
