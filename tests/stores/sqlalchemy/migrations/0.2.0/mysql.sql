CREATE TABLE hermes_counters (
    name VARCHAR(20) NOT NULL,
    value BIGINT NOT NULL,
    PRIMARY KEY (name)
)ENGINE=InnoDB;

CREATE TABLE hermes_keys (
    owner VARBINARY(1020) NOT NULL,
    name VARBINARY(1020) NOT NULL,
    session_id VARBINARY(1024) NOT NULL,
    updated_at TIMESTAMP NOT NULL DEFAULT (now()),
    PRIMARY KEY (owner, name)
)ENGINE=InnoDB;

CREATE INDEX ix_hermes_keys_session_id ON hermes_keys (owner, session_id);

CREATE TABLE hermes_sessions (
    owner VARBINARY(1020) NOT NULL,
    id VARBINARY(1024) NOT NULL,
    next_seq BIGINT NOT NULL,
    turns BIGINT NOT NULL,
    created_at TIMESTAMP NOT NULL DEFAULT (now()),
    updated_at TIMESTAMP NOT NULL DEFAULT (now()),
    deleted_at TIMESTAMP NULL,
    first_seq BIGINT NOT NULL DEFAULT '0',
    archived BIGINT NOT NULL DEFAULT '0',
    fence BIGINT NOT NULL DEFAULT '0',
    leased_until BIGINT NOT NULL DEFAULT '0',
    title TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    parent_id VARBINARY(1024),
    answer_fence BIGINT,
    metadata LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    has_message_ids BIGINT NOT NULL DEFAULT '0',
    data_key TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    tags TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    pinned BIGINT NOT NULL DEFAULT '0',
    shelved BIGINT NOT NULL DEFAULT '0',
    has_labels BIGINT NOT NULL DEFAULT '0',
    PRIMARY KEY (owner, id)
)ENGINE=InnoDB;
CREATE INDEX ix_hermes_sessions_updated_at ON hermes_sessions (owner, updated_at DESC, id);

CREATE TABLE hermes_answers (
    owner VARBINARY(1020) NOT NULL,
    id VARBINARY(1020) NOT NULL,
    session_id VARBINARY(1024) NOT NULL,
    turn_id VARBINARY(1020),
    question LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    replace_from BIGINT,
    digest VARCHAR(64),
    fence BIGINT NOT NULL,
    state VARCHAR(10) NOT NULL,
    begun LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    message LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    length BIGINT,
    stop_requested BIGINT NOT NULL DEFAULT '0',
    ended_at BIGINT,
    followed_until BIGINT,
    PRIMARY KEY (owner, id),
    FOREIGN KEY(owner, session_id) REFERENCES hermes_sessions (owner, id) ON DELETE CASCADE
)ENGINE=InnoDB;

CREATE INDEX ix_hermes_answers_ended_at ON hermes_answers (ended_at);

CREATE INDEX ix_hermes_answers_session_id ON hermes_answers (owner, session_id);

CREATE TABLE hermes_archive (
    owner VARBINARY(1020) NOT NULL,
    session_id VARBINARY(1024) NOT NULL,
    number BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    turn_id VARBINARY(1020) NOT NULL,
    body LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    reason VARCHAR(20) NOT NULL,
    archived_at TIMESTAMP NOT NULL DEFAULT (now()),
    operation VARCHAR(20),
    PRIMARY KEY (owner, session_id, number),
    FOREIGN KEY(owner, session_id) REFERENCES hermes_sessions (owner, id) ON DELETE CASCADE
)ENGINE=InnoDB;

CREATE INDEX ix_hermes_archive_turn_id ON hermes_archive (owner, session_id, turn_id);

CREATE TABLE hermes_message_ids (
    owner VARBINARY(1020) NOT NULL,
    session_id VARBINARY(1024) NOT NULL,
    message_id VARBINARY(1020) NOT NULL,
    seq BIGINT NOT NULL,
    PRIMARY KEY (owner, session_id, message_id),
    FOREIGN KEY(owner, session_id) REFERENCES hermes_sessions (owner, id) ON DELETE CASCADE
)ENGINE=InnoDB;

CREATE INDEX ix_hermes_message_ids_message_id ON hermes_message_ids (owner, message_id);

CREATE INDEX ix_hermes_message_ids_seq ON hermes_message_ids (owner, session_id, seq);

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

CREATE TABLE hermes_answer_events (
    owner VARBINARY(1020) NOT NULL,
    answer_id VARBINARY(1020) NOT NULL,
    first BIGINT NOT NULL,
    last BIGINT NOT NULL,
    body LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    growth LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    PRIMARY KEY (owner, answer_id, first),
    FOREIGN KEY(owner, answer_id) REFERENCES hermes_answers (owner, id) ON DELETE CASCADE
)ENGINE=InnoDB;

CREATE TABLE hermes_labels (
    owner VARBINARY(1020) NOT NULL, 
    session_id VARBINARY(1024) NOT NULL, 
    name VARBINARY(160) NOT NULL, 
    updated_at TIMESTAMP NOT NULL DEFAULT (now()), 
    PRIMARY KEY (owner, session_id, name), 
    FOREIGN KEY(owner, session_id) REFERENCES hermes_sessions (owner, id) ON DELETE CASCADE
)ENGINE=InnoDB;
CREATE INDEX ix_hermes_labels_name ON hermes_labels (owner, name, updated_at DESC, session_id);
