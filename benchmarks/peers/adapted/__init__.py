"""Each framework's own store, and ours behind the framework's protocol, as its users have both.

A module has the two classes ``Own`` and ``Ours``; both do the same, and keep their conversations in
a SQLite file in WAL mode with ``synchronous=FULL``, but for a framework that has files alone.
"""

from pathlib import Path

from hermes_session_mw import SQLAlchemyStore


def our_store(directory: Path) -> SQLAlchemyStore:
    """Return our store over a new file in ``directory``."""
    return SQLAlchemyStore(f"sqlite:///{directory / 'ours.db'}")
