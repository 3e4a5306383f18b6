INSERT INTO hermes_sessions (owner, id, next_seq, turns, created_at, updated_at, deleted_at, first_seq, archived, fence, leased_until, title, parent_id, answer_fence) VALUES
    ('', 'thread', 4, 2, '2026-11-20 10:00:00', '2026-11-20 10:01:00', NULL, 0, 0, 0, 0, NULL, NULL, NULL),
    ('', 'unnamed', 3, 2, '2026-11-20 10:00:00', '2026-11-20 10:01:00', NULL, 0, 0, 0, 0, NULL, NULL, NULL),
    ('ada', 'thread', 1, 1, '2026-11-20 10:00:00', '2026-11-20 10:00:00', NULL, 0, 0, 1, 1795169260000, NULL, NULL, NULL),
    ('', 'gone', 2, 1, '2026-11-20 10:00:00', '2026-11-20 10:00:00', '2026-11-20 10:01:00', 0, 0, 0, 0, NULL, NULL, NULL),
    ('', 'edited', 4, 3, '2026-11-20 10:00:00', '2026-11-20 10:01:00', NULL, 0, 2, 0, 0, 'Two words', NULL, NULL),
    ('', 'forked', 2, 1, '2026-11-20 10:00:00', '2026-11-20 10:00:00', NULL, 0, 0, 0, 0, NULL, 'thread', NULL);

UPDATE hermes_sessions SET metadata = '{"topic":"numbers"}', updated_at = updated_at WHERE id = 'edited';

UPDATE hermes_sessions SET has_message_ids = 1, updated_at = updated_at WHERE id = 'edited';

UPDATE hermes_sessions SET data_key = 'k1.AAAA', updated_at = updated_at WHERE id = 'edited';

INSERT INTO hermes_messages (owner, session_id, seq, turn_id, body, created_at) VALUES
    ('', 'thread', 0, 'first', '{"n":0}', '2026-11-20 10:00:00'),
    ('', 'thread', 1, 'first', '{"n":1}', '2026-11-20 10:00:00'),
    ('', 'thread', 2, 'second', '{"n":2}', '2026-11-20 10:01:00'),
    ('', 'thread', 3, 'second', '{"n":3}', '2026-11-20 10:01:00'),
    ('', 'unnamed', 0, 'c6c72261a2e8effbe2c26bfcf9701996', '{"n":0}', '2026-11-20 10:00:00'),
    ('', 'unnamed', 1, 'c6c72261a2e8effbe2c26bfcf9701996', '{"n":1}', '2026-11-20 10:00:00'),
    ('', 'unnamed', 2, 'third', '{"n":2}', '2026-11-20 10:01:00'),
    ('ada', 'thread', 0, 'first', '{"n":0}', '2026-11-20 10:00:00'),
    ('', 'edited', 0, 'first', '{"n":0}', '2026-11-20 10:00:00'),
    ('', 'edited', 1, 'first', '{"n":1}', '2026-11-20 10:00:00'),
    ('', 'edited', 2, 'third', '{"n":2}', '2026-11-20 10:01:00'),
    ('', 'edited', 3, 'third', '{"n":3}', '2026-11-20 10:01:00'),
    ('', 'forked', 0, 'f531ba905ad3a02d370b44c58d1e2904', '{"n":0}', '2026-11-20 10:00:00'),
    ('', 'forked', 1, 'f531ba905ad3a02d370b44c58d1e2904', '{"n":1}', '2026-11-20 10:00:00');

INSERT INTO hermes_message_ids (owner, session_id, message_id, seq) VALUES
    ('', 'edited', 'm-0', 0),
    ('', 'edited', 'm-3', 3);

INSERT INTO hermes_archive (owner, session_id, number, seq, turn_id, body, reason, archived_at) VALUES
    ('', 'edited', 0, 2, 'second', '{"n":5}', 'rewind', '2026-11-20 10:01:00'),
    ('', 'edited', 1, 3, 'second', '{"n":6}', 'rewind', '2026-11-20 10:01:00');

UPDATE hermes_archive SET operation = 'q1J0W8mPZk3xYb2c', archived_at = archived_at WHERE number = 1;

INSERT INTO hermes_keys (owner, name, session_id, updated_at) VALUES
    ('ada', 'work', 'thread', '2026-11-20 10:00:00');

INSERT INTO hermes_counters (name, value) VALUES ('fence', 7);

INSERT INTO hermes_answers (owner, id, session_id, turn_id, question, replace_from, digest, fence, state, begun, message, length, stop_requested, ended_at, followed_until) VALUES
    ('', 'answer', 'edited', 'third', '[{"n":2}]', NULL, 'abc', 3, 'completed', '{"n":0}', '{"n":3}', 4, 0, 1795169260000, 1795169250000);

INSERT INTO hermes_answer_events (owner, answer_id, first, last, body, growth) VALUES
    ('', 'answer', 1, 1, '"Because."', '[["=",["n"],3]]');

UPDATE hermes_sessions SET tags = '["numbers"]', pinned = 1, has_labels = 2, updated_at = updated_at
    WHERE owner = '' AND id = 'edited';

INSERT INTO hermes_labels (owner, session_id, name, updated_at) SELECT owner, id, 'pinned', updated_at
    FROM hermes_sessions WHERE owner = '' AND id = 'edited';
