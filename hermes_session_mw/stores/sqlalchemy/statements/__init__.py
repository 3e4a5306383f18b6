"""The SQL of each operation, and the functions that execute it.

The rules of these modules:

- Every value is a bound parameter. A statement is built once, at import, so that SQLAlchemy
  compiles it once; where dialects differ there is one statement for each.
- The functions are plain and synchronous. They take a `Database`, which an executor runs them with
  in a thread or in a greenlet.
- A read is one statement, and one round trip. Where two statements have to agree, they read one
  snapshot or hold a row lock.
- A write is one short transaction, or one statement where the database can do it in one. It locks
  the session's row before it reads what it depends on, so that of two writers one sees all that the
  other has done.
- A function may run again, as a whole, after a lock time-out, a deadlock or a lost connection. What
  must not happen twice is recognized by its turn id, or by ``repeated``.
- An UPDATE of ``hermes_sessions`` that does not change the history sets ``updated_at`` to itself
  (``updated_at=sessions.c.updated_at``). Without that MySQL sets a TIMESTAMP column to the current
  time, and ``list`` and ``prune`` would take the session for a changed one.
"""
