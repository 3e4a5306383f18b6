"""Session keys of the server's own, which lead to sessions as the keys of clients do."""

import json
from hashlib import sha256


def server_key(kind: str, named: object) -> str:
    """Return the session key of a kind that stands for some JSON, which it does not show.

    No client's header can name it: those keys are printable ASCII.
    """
    return f"\N{SECTION SIGN}{kind}:{sha256(json.dumps(named).encode()).hexdigest()}"
