#!/usr/bin/env bash
# schemathesis 4.32.5 cannot run a schema that it takes from a fixture under pytest 9.2.0: from_fixture() is collected,
# and its test then fails with AttributeError: 'Function' object has no attribute '_nodeid', before any request is sent.
# Under pytest 9.0.2 the same file passes; a schema that is loaded before the collection passes under both.
# Seen on 2026-11-29. So the tests of this package load the schema when their module is imported.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat >test_schema.py <<'PYTHON'
import pytest
import schemathesis
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

app = Starlette(routes=[Route("/", lambda request: PlainTextResponse("ok"))])
plain = {"200": {"description": "ok", "content": {"text/plain": {"schema": {"type": "string"}}}}}
described = {
    "openapi": "3.1.0",
    "info": {"title": "one", "version": "1"},
    "paths": {"/": {"get": {"responses": plain}}},
}


@pytest.fixture
def served():
    schema = schemathesis.openapi.from_dict(described)
    schema.app = app
    return schema


lazy = schemathesis.pytest.from_fixture("served")
eager = schemathesis.openapi.from_dict(described)
eager.app = app


@lazy.parametrize()
def test_lazy(case):
    case.call_and_validate()


@eager.parametrize()
def test_eager(case):
    case.call_and_validate()
PYTHON
python3 -m venv "$folder/venv"
install() { "$folder/venv/bin/python" -m pip --disable-pip-version-check install --quiet "$@"; }
run() { "$folder/venv/bin/python" -m pytest -q -p no:cacheprovider test_schema.py >told 2>&1 || true; }
install schemathesis==4.32.5 pytest==9.2.0 starlette==1.10.0
run
tail -n 4 told
grep -q "'Function' object has no attribute '_nodeid'" told
grep -q "test_lazy" told
grep -q "1 failed, 1 passed" told
install pytest==9.0.2
run
tail -n 1 told
grep -q "2 passed" told
