CREATE TABLE hermes_counters (
    name VARCHAR(20) NOT NULL,
    value BIGINT NOT NULL,
    PRIMARY KEY (name)
)
 WITHOUT ROWID;

CREATE TABLE hermes_keys (
    owner VARCHAR(255) NOT NULL,
    name VARCHAR(255) NOT NULL,
    session_id VARCHAR(256) NOT NULL,
    updated_at DATETIME DEFAULT (replace(strftime('%Y-%m-%d %H:%M:%f', 'now'), '.000', '')) NOT NULL,
    PRIMARY KEY (owner, name)
)
 WITHOUT ROWID;

CREATE INDEX ix_hermes_keys_session_id ON hermes_keys (owner, session_id);

CREATE TABLE hermes_sessions (
    owner VARCHAR(255) NOT NULL,
    id VARCHAR(256) NOT NULL,
    next_seq BIGINT NOT NULL,
    turns BIGINT NOT NULL,
    created_at DATETIME DEFAULT (replace(strftime('%Y-%m-%d %H:%M:%f', 'now'), '.000', '')) NOT NULL,
    updated_at DATETIME DEFAULT (replace(strftime('%Y-%m-%d %H:%M:%f', 'now'), '.000', '')) NOT NULL,
    deleted_at DATETIME,
    first_seq BIGINT DEFAULT '0' NOT NULL,
    archived BIGINT DEFAULT '0' NOT NULL,
    fence BIGINT DEFAULT '0' NOT NULL,
    leased_until BIGINT DEFAULT '0' NOT NULL,
    title TEXT,
    parent_id VARCHAR(256),
    answer_fence BIGINT,
    metadata TEXT,
    has_message_ids BIGINT DEFAULT '0' NOT NULL,
    data_key TEXT,
    tags TEXT,
    pinned BIGINT DEFAULT '0' NOT NULL,
    shelved BIGINT DEFAULT '0' NOT NULL,
    has_labels BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (owner, id)
)
 WITHOUT ROWID;
CREATE INDEX ix_hermes_sessions_updated_at ON hermes_sessions (owner, updated_at DESC, id) WHERE deleted_at IS NULL;

CREATE TABLE hermes_answers (
    owner VARCHAR(255) NOT NULL,
    id VARCHAR(255) NOT NULL,
    session_id VARCHAR(256) NOT NULL,
    turn_id VARCHAR(255),
    question TEXT NOT NULL,
    replace_from BIGINT,
    digest VARCHAR(64),
    fence BIGINT NOT NULL,
    state VARCHAR(10) NOT NULL,
    begun TEXT,
    message TEXT,
    length BIGINT,
    stop_requested BIGINT DEFAULT '0' NOT NULL,
    ended_at BIGINT,
    followed_until BIGINT,
    PRIMARY KEY (owner, id),
    FOREIGN KEY(owner, session_id) REFERENCES hermes_sessions (owner, id) ON DELETE CASCADE
)
 WITHOUT ROWID;

CREATE INDEX ix_hermes_answers_ended_at ON hermes_answers (ended_at);

CREATE INDEX ix_hermes_answers_session_id ON hermes_answers (owner, session_id);

CREATE TABLE hermes_archive (
    owner VARCHAR(255) NOT NULL,
    session_id VARCHAR(256) NOT NULL,
    number BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    turn_id VARCHAR(255) NOT NULL,
    body TEXT NOT NULL,
    reason VARCHAR(20) NOT NULL,
    archived_at DATETIME DEFAULT (replace(strftime('%Y-%m-%d %H:%M:%f', 'now'), '.000', '')) NOT NULL,
    operation VARCHAR(20),
    PRIMARY KEY (owner, session_id, number),
    FOREIGN KEY(owner, session_id) REFERENCES hermes_sessions (owner, id) ON DELETE CASCADE
)
 WITHOUT ROWID;

CREATE INDEX ix_hermes_archive_turn_id ON hermes_archive (owner, session_id, turn_id);

CREATE TABLE hermes_message_ids (
    owner VARCHAR(255) NOT NULL,
    session_id VARCHAR(256) NOT NULL,
    message_id VARCHAR(255) NOT NULL,
    seq BIGINT NOT NULL,
    PRIMARY KEY (owner, session_id, message_id),
    FOREIGN KEY(owner, session_id) REFERENCES hermes_sessions (owner, id) ON DELETE CASCADE
)
 WITHOUT ROWID;

CREATE INDEX ix_hermes_message_ids_message_id ON hermes_message_ids (owner, message_id);

CREATE INDEX ix_hermes_message_ids_seq ON hermes_message_ids (owner, session_id, seq);

CREATE TABLE hermes_messages (
    owner VARCHAR(255) NOT NULL,
    session_id VARCHAR(256) NOT NULL,
    seq BIGINT NOT NULL,
    turn_id VARCHAR(255) NOT NULL,
    body TEXT NOT NULL,
    created_at DATETIME DEFAULT (replace(strftime('%Y-%m-%d %H:%M:%f', 'now'), '.000', '')) NOT NULL,
    PRIMARY KEY (owner, session_id, seq),
    FOREIGN KEY(owner, session_id) REFERENCES hermes_sessions (owner, id) ON DELETE CASCADE
)
 WITHOUT ROWID;

CREATE INDEX ix_hermes_messages_turn_id ON hermes_messages (owner, session_id, turn_id);

CREATE TABLE hermes_answer_events (
    owner VARCHAR(255) NOT NULL,
    answer_id VARCHAR(255) NOT NULL,
    first BIGINT NOT NULL,
    last BIGINT NOT NULL,
    body TEXT NOT NULL,
    growth TEXT,
    PRIMARY KEY (owner, answer_id, first),
    FOREIGN KEY(owner, answer_id) REFERENCES hermes_answers (owner, id) ON DELETE CASCADE
)
 WITHOUT ROWID;

CREATE TABLE hermes_labels (
    owner VARCHAR(255) NOT NULL, 
    session_id VARCHAR(256) NOT NULL, 
    name VARCHAR(40) NOT NULL, 
    updated_at DATETIME DEFAULT (replace(strftime('%Y-%m-%d %H:%M:%f', 'now'), '.000', '')) NOT NULL, 
    PRIMARY KEY (owner, session_id, name), 
    FOREIGN KEY(owner, session_id) REFERENCES hermes_sessions (owner, id) ON DELETE CASCADE
)
 WITHOUT ROWID;
CREATE INDEX ix_hermes_labels_name ON hermes_labels (owner, name, updated_at DESC, session_id);
