INSERT INTO hermes_sessions (owner, id, next_seq, turns, created_at, updated_at, deleted_at) VALUES
    ('', 'thread', 4, 2, '2026-11-20 10:00:00', '2026-11-20 10:01:00', NULL),
    ('', 'unnamed', 3, 2, '2026-11-20 10:00:00', '2026-11-20 10:01:00', NULL),
    ('ada', 'thread', 1, 1, '2026-11-20 10:00:00', '2026-11-20 10:00:00', NULL),
    ('', 'gone', 2, 1, '2026-11-20 10:00:00', '2026-11-20 10:00:00', '2026-11-20 10:01:00');

INSERT INTO hermes_messages (owner, session_id, seq, turn_id, body, created_at) VALUES
    ('', 'thread', 0, 'first', '{"n":0}', '2026-11-20 10:00:00'),
    ('', 'thread', 1, 'first', '{"n":1}', '2026-11-20 10:00:00'),
    ('', 'thread', 2, 'second', '{"n":2}', '2026-11-20 10:01:00'),
    ('', 'thread', 3, 'second', '{"n":3}', '2026-11-20 10:01:00'),
    ('', 'unnamed', 0, 'c6c72261a2e8effbe2c26bfcf9701996', '{"n":0}', '2026-11-20 10:00:00'),
    ('', 'unnamed', 1, 'c6c72261a2e8effbe2c26bfcf9701996', '{"n":1}', '2026-11-20 10:00:00'),
    ('', 'unnamed', 2, 'third', '{"n":2}', '2026-11-20 10:01:00'),
    ('ada', 'thread', 0, 'first', '{"n":0}', '2026-11-20 10:00:00');
