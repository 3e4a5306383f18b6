"""The description of the session routes says what they do: their paths, limits and refusals."""

import json
from pathlib import Path
from typing import Any

from starlette.routing import Route

import hermes_session_mw
from hermes_session_mw import MemoryStore, SessionInfo, session_routes
from hermes_session_mw.asgi.error_responses import BY_ERROR, Refusal, RouteRefusals
from hermes_session_mw.ids import MAX_ID_LENGTH
from hermes_session_mw.routes.openapi import (
    CURSOR_FORMAT,
    ID_FORMAT,
    SEARCH_CURSOR_FORMAT,
    describe,
)
from hermes_session_mw.routes.parameters import BODY_TOO_LARGE, MAX_INDEX
from hermes_session_mw.routes.search import HITS
from hermes_session_mw.stores.models import MAX_PAGE, MAX_TITLE, PAGE
from hermes_session_mw.stores.search import MAX_HITS, MAX_QUERY

FILE = Path(hermes_session_mw.__file__).parent / "routes" / "openapi.json"
DESCRIPTION: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
COMPONENTS = DESCRIPTION["components"]
OPERATIONS = {
    (path, method): operation
    for path, item in DESCRIPTION["paths"].items()
    for method, operation in item.items()
    if method != "parameters"
}


def refused_by(operation: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the responses that are refusals, by their status."""
    references = {
        status: response["$ref"].rpartition("/")[2]
        for status, response in operation["responses"].items()
        if "$ref" in response
    }
    return {status: COMPONENTS["responses"][name] for status, name in references.items()}


def schemas(value: object, name: str) -> list[dict[str, Any]]:
    """Return the schemas of all parameters and properties of a name."""
    found: list[dict[str, Any]] = []
    if isinstance(value, dict):
        if value.get("name") == name and "schema" in value:
            found.append(value["schema"])
        properties = value.get("properties")
        if isinstance(properties, dict) and name in properties:
            found.append(properties[name])
        children = list(value.values())
    else:
        children = list(value) if isinstance(value, list) else []
    return found + [each for child in children for each in schemas(child, name)]


def test_the_file_is_what_the_default_routes_answer() -> None:
    """The file is a whole description; another prefix and address change nothing else in it."""
    assert describe("/sessions", "") == DESCRIPTION
    moved = describe("/chats", "/api")
    assert moved["servers"] == [{"url": "/api"}]
    assert [path.replace("/chats", "/sessions") for path in moved["paths"]] == list(
        DESCRIPTION["paths"]
    )
    assert moved["components"] == COMPONENTS


def test_every_route_is_described_and_no_other() -> None:
    """Each path and method of the routes has its operation, but for the description's own."""
    routes = [route for route in session_routes(MemoryStore()) if isinstance(route, Route)]
    served = {
        (route.path, method.lower())
        for route in routes
        for method in route.methods or ()
        if method != "HEAD" and not route.path.endswith("openapi.json")
    }
    assert served == set(OPERATIONS)
    names = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(set(names)) == len(names)


def test_every_reference_leads_somewhere() -> None:
    """Each ``$ref`` names a component, and each component is referred to."""
    text = FILE.read_text("utf-8")
    for kind, components in COMPONENTS.items():
        for name in components:
            assert f'"#/components/{kind}/{name}"' in text, name
    for reference in text.split('"$ref": "')[1:]:
        kind, name = reference.split('"')[0].removeprefix("#/components/").split("/")
        assert name in COMPONENTS[kind]


def test_the_limits_are_those_of_the_package() -> None:
    """The numbers of the description are the constants that the routes check against."""
    limits = schemas(DESCRIPTION, "limit")
    assert len(limits) == 3
    (of_hits,) = (each for each in limits if each["maximum"] == MAX_HITS)
    assert (of_hits["minimum"], of_hits["default"]) == (1, HITS)
    assert [each["maxLength"] for each in schemas(DESCRIPTION, "q")] == [MAX_QUERY]
    for limit in [each for each in limits if each is not of_hits]:
        assert (limit["minimum"], limit["maximum"], limit["default"]) == (1, MAX_PAGE, PAGE)
    for place in [
        *schemas(DESCRIPTION["paths"], "before"),
        *schemas(DESCRIPTION["paths"], "length"),
    ]:
        assert (place["minimum"], place["maximum"]) == (0, MAX_INDEX)
    assert {title["maxLength"] for title in schemas(DESCRIPTION, "title")} == {MAX_TITLE}
    ids = schemas(DESCRIPTION, "id")
    assert {(each["maxLength"], each["format"]) for each in ids} == {(MAX_ID_LENGTH, ID_FORMAT)}
    formats = [each["format"] for each in schemas(DESCRIPTION, "cursor")]
    assert formats == [CURSOR_FORMAT, SEARCH_CURSOR_FORMAT]


def test_a_session_has_the_fields_of_its_schema() -> None:
    """The schema of a session has what a store tells of one, but for its owner, and its kind."""
    schema = COMPONENTS["schemas"]["Session"]
    assert set(schema["properties"]) == {*SessionInfo.__slots__, "object"} - {"owner"}
    assert set(schema["required"]) == set(schema["properties"])


def test_every_refusal_is_described_with_its_headers() -> None:
    """The statuses of the routes' refusals stand there, with the headers that go out with them."""
    own = [value for value in vars(RouteRefusals).values() if isinstance(value, Refusal)]
    statuses = {str(refusal.status) for refusal in [*own, BODY_TOO_LARGE]}
    described = {
        status: response
        for operation in OPERATIONS.values()
        for status, response in refused_by(operation).items()
    }
    assert set(described) == {*statuses, "400"}
    for refusal in own:
        headers = {name.lower() for name in described[str(refusal.status)]["headers"]}
        assert {name.decode() for name, _ in refusal.headers} | {"cache-control"} <= headers
    assert {refusal.type for refusal in [*own, *BY_ERROR.values()]} == set(
        COMPONENTS["schemas"]["Error"]["properties"]["error"]["properties"]["type"]["enum"]
    )
    for operation in OPERATIONS.values():
        assert {"400", "401", "501", "503"} <= set(operation["responses"])
