"""Who is measured on which database, and the environment that each is installed in."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = Path(__file__).with_name("environments")
OURS = "ours"
PLAIN = "ours, without [fast]"
SQLITE, POSTGRESQL = "SQLite", "PostgreSQL"


@dataclass(frozen=True)
class Entry:
    """A store that is measured: its name, and its adapter's module and class.

    ``environment`` is the file in ``environments`` that says what is installed for it. A store
    that ``syncs`` has a turn on the disk before it says so; the others lose the last turns, or all
    of them, when the machine loses its power.
    """

    name: str
    adapter: str
    environment: str
    databases: tuple[str, ...] = (SQLITE,)
    syncs: bool = True

    @property
    def python(self) -> Path:
        """Return the interpreter that has what the adapter imports."""
        return ROOT / ".bench" / self.environment / "bin" / "python"


_BOTH = (SQLITE, POSTGRESQL)
_OURS = (
    Entry(OURS, "ours:Ours", "ours", _BOTH),
    Entry(PLAIN, "ours_plain:Ours", "ours", _BOTH),
    Entry("raw sqlite3", "raw_sqlite:RawSQLite", "ours"),
    Entry("raw asyncpg", "raw_asyncpg:RawAsyncpg", "ours", (POSTGRESQL,)),
)
_PEERS = (
    Entry("openai-agents SQLiteSession", "openai_sqlite:OpenAISQLite", "openai-agents"),
    Entry(
        "openai-agents SQLAlchemySession",
        "openai_sqlalchemy:OpenAISQLAlchemy",
        "openai-agents",
        _BOTH,
    ),
    Entry("langchain SQLChatMessageHistory", "langchain:LangChain", "langchain", _BOTH),
    Entry("google-adk DatabaseSessionService", "google_adk:GoogleADK", "google-adk", _BOTH),
    Entry("llama-index SQLAlchemyChatStore", "llama_index:LlamaIndex", "llama-index", _BOTH),
    Entry("langgraph AsyncSqliteSaver", "langgraph:LangGraph", "langgraph"),
    Entry("hermes-agent SessionDB", "hermes_agent:HermesAgent", "hermes-agent"),
    Entry(
        "agent-framework FileHistoryProvider",
        "agent_framework:AgentFramework",
        "agent-framework",
        syncs=False,
    ),
    Entry(
        "claude-agent-sdk InMemorySessionStore",
        "claude_agent:ClaudeAgent",
        "claude-agent-sdk",
        syncs=False,
    ),
    Entry(
        "pydantic-ai InMemoryConversationStore",
        "pydantic_ai:PydanticAI",
        "pydantic-ai",
        syncs=False,
    ),
)


def everyone(database: str) -> list[Entry]:
    """Return all that can have ``database``, ours first."""
    return [entry for entry in (*_OURS, *_PEERS) if database in entry.databases]


def peers(database: str) -> list[str]:
    """Return the names of the peers whose writes are as safe there as ours."""
    return [entry.name for entry in _PEERS if database in entry.databases and entry.syncs]


def unsafe_peers() -> list[str]:
    """Return the names of the other peers."""
    return [entry.name for entry in _PEERS if not entry.syncs]
