"""The page with a complete backend is true: its two files work as pasted."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from tests.docs.test_readme import promised
from tests.support.server import ROOT, free_port, serving
from tests.support.upstreams import Exchange, parrot, upstream

PAGE = (ROOT / "docs" / "complete-backend.md").read_text()
FILES = dict(re.findall(r"^```python (\S+)\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE))
KEYS = '{"ada": "ada-key", "bob": "bob-key"}'


ADA = {"Authorization": "Bearer ada-key"}


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
        capture_output=True, text=True, check=False, timeout=280, cwd=folder,
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
            b'{"messages": []}',
            b'{"messages": [{"role": "system", "content": "x"}]}',
            b'{"messages": [{"role": "user"}]}',
            b'{"messages": [{"role": ["user"], "content": "x"}]}',
            b'{"messages": [{"role": "tool", "tool_call_id": "1", "content": "x"}]}',
            b'{"messages": [{"role": "user", "content": "x"}], "n": 2}',
            b'{"messages": [{"role": "user", "content": "x"}], "tools": [{}]}',
            b"[" * 9999,
        ):
            answer = httpx2.post(f"{url}/v1/chat/completions", content=body, headers=ADA)
            assert answer.status_code == 400
            assert answer.json()["error"]["type"] == "invalid_request_error"


def cut_off(exchange: Exchange) -> None:
    """Answer in part: the stream ends well, without a reason and without [DONE]."""
    exchange.head()
    exchange.delta(role="assistant", content="It")
    exchange.delta(content=" is")


def limited(exchange: Exchange) -> None:
    """Answer as far as the limit allows."""
    exchange.head()
    exchange.delta(role="assistant", content="It is")
    exchange.delta(reason="length")
    exchange.event("[DONE]")


def test_the_complete_backend_tells_how_an_answer_ends(tmp_path: Path) -> None:
    """An answer that broke off is told and stored as such, and the model's reason is passed on."""
    body = {
        "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "?"}],
        "model": "any", "temperature": 0.5, "max_tokens": 2,
    }  # fmt: skip
    with (
        upstream(cut_off, cut_off, limited) as server,
        backend(tmp_path, OPENAI_API_KEY="sk-test", OPENAI_BASE_URL=server.url) as url,
    ):

        def ask(number: int, **more: object) -> httpx2.Response:
            named = {"X-Hermes-Session-Id": "s", "Idempotency-Key": str(number), **ADA}
            path = f"{url}/v1/chat/completions"
            return httpx2.post(path, json=body | more, headers=named)

        assert ask(1).status_code == 502
        broken = ask(2, stream=True).text
        assert '"error"' in broken
        assert "[DONE]" not in broken
        stored = httpx2.get(f"{url}/v1/sessions/s/messages", headers=ADA).json()["data"]
        assert [(each["content"], each.get("status")) for each in stored] == [
            ("?", None), ("It is", "incomplete"),
        ]  # fmt: skip
        for _ in range(2):
            choice = ask(3).json()["choices"][0]
            assert (choice["message"]["content"], choice["finish_reason"]) == ("It is", "length")
            ended = [event for event in ask(3, stream=True).text.split("\n\n") if "length" in event]
            assert json.loads(ended[0][6:])["choices"][0]["finish_reason"] == "length"
    assert len(server.requests) == 3
    sent = server.requests[0].body
    assert [each["content"] for each in sent["messages"]] == ["Be short.", "?"]
    assert (sent["model"], sent["temperature"], sent["max_tokens"]) == ("gpt-4o-mini", 0.5, 2)


def test_the_complete_backend_makes_titles_of_any_text(tmp_path: Path) -> None:
    """A text in parts is a title as text, and one without printable characters is none."""
    with backend(tmp_path) as url:
        for content in ("\0", "a\0b", [{"type": "text", "text": "in parts"}]):
            body = {"messages": [{"role": "user", "content": content}]}
            answer = httpx2.post(f"{url}/v1/chat/completions", json=body, headers=ADA)
            assert answer.status_code == 200, answer.text
        listed = httpx2.get(f"{url}/v1/sessions", headers=ADA).json()["data"]
        assert {each["title"] for each in listed} == {None, "a b", "in parts"}
