"""Who is measured on which database."""

from benchmarks.peers.google_adk import GoogleADK
from benchmarks.peers.hermes_agent import HermesAgent
from benchmarks.peers.langchain import LangChain
from benchmarks.peers.langgraph import LangGraph
from benchmarks.peers.llama_index import LlamaIndex
from benchmarks.peers.openai_sqlalchemy import OpenAISQLAlchemy
from benchmarks.peers.openai_sqlite import OpenAISQLite
from benchmarks.peers.peer import Peer


def on_sqlite() -> list[Peer]:
    """Return new adapters of all peers that can have SQLite."""
    return [OpenAISQLite(), *on_postgresql(), LangGraph(), HermesAgent()]


def on_postgresql() -> list[Peer]:
    """Return new adapters of all peers that can have PostgreSQL."""
    return [OpenAISQLAlchemy(), LangChain(), GoogleADK(), LlamaIndex()]
