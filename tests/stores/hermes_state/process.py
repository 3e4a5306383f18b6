"""Hermes Agent's ``SessionDB`` in a process of its own: one call per line of JSON, one answer.

Run with Hermes Agent on its path, and nothing else of the tests.
"""

import json
import sys
from pathlib import Path
from typing import Any

from hermes_state import SessionDB


def main() -> None:
    database = SessionDB(Path(sys.argv[1]))
    print("ready", flush=True)
    for line in sys.stdin:
        method, arguments, options = json.loads(line)
        print(json.dumps(answer(database, method, arguments, options)), flush=True)
    database.close()


def answer(database: Any, method: str, arguments: list[Any], options: dict[str, Any]) -> Any:
    if method == "many":
        return [answer(database, *each) for each in arguments]
    try:
        return {"value": getattr(database, method)(*arguments, **options)}
    except Exception as exc:  # noqa: BLE001  # told to the test
        return {"error": f"{type(exc).__name__}: {exc}"}


if __name__ == "__main__":
    main()
