"""The page with a complete backend is true: its two files work as pasted."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from tests.docs.test_readme import promised
from tests.support.server import ROOT, free_port, serving
from tests.support.upstreams import parrot, upstream

PAGE = (ROOT / "docs" / "complete-backend.md").read_text()
FILES = dict(re.findall(r"^```python (\S+)\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE))
KEYS = '{"ada": "ada-key", "bob": "bob-key"}'


@contextmanager
def backend(folder: Path, **environment: str) -> Iterator[str]:
    """Serve the page's application as the page starts it; yield its URL."""
    assert f"API_KEYS='{KEYS}' uvicorn app:app\n" in PAGE
    (folder / "app.py").write_text(FILES["app.py"])
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port)]
    variables = {"API_KEYS": KEYS, "PYTHONPATH": f"{ROOT}:{folder}", **environment}
    with serving(command, port, folder, ready=None, **variables):
        yield f"http://127.0.0.1:{port}"


def run_client(folder: Path, url: str) -> str:
    """Run the page's client, and return what it prints."""
    (folder / "client.py").write_text(FILES["client.py"].replace("http://127.0.0.1:8000", url))
    done = subprocess.run(
        [sys.executable, "client.py"],
        capture_output=True, text=True, check=False, timeout=60, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_complete_backend_works_as_pasted(tmp_path: Path) -> None:
    """With a real uvicorn and OpenAI's client, each line prints what the page says."""
    with backend(tmp_path) as url:
        output = run_client(tmp_path, url)
    assert promised(FILES["client.py"])
    missing = [text for text in promised(FILES["client.py"]) if text not in output]
    assert missing == [], output + (tmp_path / "server.log").read_text()
    assert output.count("You said: Remember this. (4 messages before)\n") == 2


def test_the_complete_backend_asks_a_model(tmp_path: Path) -> None:
    """With a model's address and key, it is given the stored conversation, once for each turn."""
    with (
        upstream(parrot) as server,
        backend(tmp_path, OPENAI_API_KEY="sk-test", OPENAI_BASE_URL=server.url) as url,
    ):
        output = run_client(tmp_path, url)
    assert "My name is Ada. / My name is Ada. / Who am I?\n" in output
    assert [len(each.body["messages"]) for each in server.requests] == [1, 3, 5, 7, 1]
    assert {each.headers["authorization"] for each in server.requests} == {"Bearer sk-test"}


def test_the_complete_backend_refuses_a_bad_body(tmp_path: Path) -> None:
    """A body that is no list of messages is a 400 in OpenAI's shape, and not a 500."""
    with backend(tmp_path) as url:
        for body in (
            b"",
            b"{",
            b"[]",
            b"{}",
            b'{"messages": [1]}',
            b'{"messages": [{}]}',
            b"[" * 9999,
        ):
            headers = {"Authorization": "Bearer ada-key"}
            answer = httpx2.post(f"{url}/v1/chat/completions", content=body, headers=headers)
            assert answer.status_code == 400
            assert answer.json()["error"]["type"] == "invalid_request_error"
