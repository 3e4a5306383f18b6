"""What uvicorn serves while it is fuzzed."""

from hermes_session_mw import HermesSessionMiddleware, MemoryStore
from tests.long.fuzz.runs import answer

app = HermesSessionMiddleware(answer, MemoryStore())
