INSERT INTO hermes_sessions (owner, id, next_seq, created_at, updated_at) VALUES
    ('', 'thread', 4, '2026-11-20 10:00:00', '2026-11-20 10:01:00'),
    ('', 'unnamed', 3, '2026-11-20 10:00:00', '2026-11-20 10:01:00'),
    ('ada', 'thread', 1, '2026-11-20 10:00:00', '2026-11-20 10:00:00');

INSERT INTO hermes_messages (owner, session_id, seq, turn_id, body, created_at) VALUES
    ('', 'thread', 0, 'first', '{"n":0}', '2026-11-20 10:00:00'),
    ('', 'thread', 1, 'first', '{"n":1}', '2026-11-20 10:00:00'),
    ('', 'thread', 2, 'second', '{"n":2}', '2026-11-20 10:01:00'),
    ('', 'thread', 3, 'second', '{"n":3}', '2026-11-20 10:01:00'),
    ('', 'unnamed', 0, NULL, '{"n":0}', '2026-11-20 10:00:00'),
    ('', 'unnamed', 1, NULL, '{"n":1}', '2026-11-20 10:00:00'),
    ('', 'unnamed', 2, 'third', '{"n":2}', '2026-11-20 10:01:00'),
    ('ada', 'thread', 0, 'first', '{"n":0}', '2026-11-20 10:00:00');
