"""Who is measured on which database."""

from .google_adk import GoogleADK
from .hermes_agent import HermesAgent
from .langchain import LangChain
from .langgraph import LangGraph
from .llama_index import LlamaIndex
from .openai_sqlalchemy import OpenAISQLAlchemy
from .openai_sqlite import OpenAISQLite
from .peer import Peer


def on_sqlite() -> list[Peer]:
    """Return new adapters of all peers that can have SQLite."""
    return [OpenAISQLite(), *on_postgresql(), LangGraph(), HermesAgent()]


def on_postgresql() -> list[Peer]:
    """Return new adapters of all peers that can have PostgreSQL."""
    return [OpenAISQLAlchemy(), LangChain(), GoogleADK(), LlamaIndex()]
