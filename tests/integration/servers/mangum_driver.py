"""Invokes an application through Mangum by AWS's events, and prints what was seen as JSON.

Run in the servers' environment: ``python -m tests.integration.servers.mangum_driver FOLDER``.
"""

import json
import sys
import time
from statistics import median
from typing import Any

from mangum import Mangum
from sqlalchemy import event
from sqlalchemy.pool import Pool
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hermes_session_mw import HermesSessionMiddleware, get_session

FOLDER = sys.argv[1]
INVOCATIONS = 20
HEADER = "x-hermes-session-id"

opened = 0


@event.listens_for(Pool, "connect")
def count(*_: object) -> None:
    """Count the connections to databases."""
    global opened  # noqa: PLW0603  # the whole process counts
    opened += 1


async def page(request: Request) -> Response:
    """Append a turn, and tell what was there before."""
    session = get_session(request)
    before = session.length
    await session.append({"n": before})
    return JSONResponse({"before": before}, headers={"set-cookie": "a=b"})


def http_api(session_id: str) -> dict[str, Any]:
    """Return an event of an HTTP API, or of a function URL: the payload's version 2.0."""
    return {
        "version": "2.0", "routeKey": "$default", "rawPath": "/", "rawQueryString": "",
        "headers": {"host": "chat.example", HEADER: session_id},
        "requestContext": {
            "http": {"method": "POST", "path": "/", "sourceIp": "192.0.2.1"},
            "stage": "$default",
        },
        "body": "{}", "isBase64Encoded": False,
    }  # fmt: skip


def rest_api(session_id: str) -> dict[str, Any]:
    """Return an event of a REST API."""
    headers = {"Host": "chat.example", "X-Hermes-Session-Id": session_id}
    return {
        "resource": "/", "path": "/", "httpMethod": "POST", "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": None, "multiValueQueryStringParameters": None,
        "requestContext": {"identity": {"sourceIp": "192.0.2.1"}, "stage": "test"},
        "body": "{}", "isBase64Encoded": False,
    }  # fmt: skip


def load_balancer(session_id: str) -> dict[str, Any]:
    """Return an event of an Application Load Balancer."""
    return {
        "requestContext": {"elb": {"targetGroupArn": "arn:aws:elasticloadbalancing:one"}},
        "httpMethod": "POST", "path": "/", "queryStringParameters": {},
        "headers": {"host": "chat.example", HEADER: session_id},
        "body": "{}", "isBase64Encoded": False,
    }  # fmt: skip


EVENTS = {"HTTP API": http_api, "REST API": rest_api, "load balancer": load_balancer}


def ids(answer: dict[str, Any]) -> list[str]:
    """Return the session ids on an answer, in either of its mappings of headers."""
    many = answer.get("multiValueHeaders") or {}
    one = answer.get("headers") or {}
    found = [value for name, values in many.items() if name.lower() == HEADER for value in values]
    return found + [value for name, value in one.items() if name.lower() == HEADER]


def invoked(lifespan: Any) -> dict[str, Any]:
    """Return what a handler with one of the options does."""
    database = f"sqlite:///{FOLDER}/{lifespan}.db"
    app = HermesSessionMiddleware(Starlette(routes=[Route("/", page, methods=["POST"])]), database)
    handler = Mangum(app, lifespan=lifespan)
    seen: dict[str, Any] = {}
    for name, make in EVENTS.items():
        first, second = (handler(make(f"{name.replace(' ', '-')}"), object()) for _ in range(2))
        befores = [json.loads(answer["body"])["before"] for answer in (first, second)]
        seen[name] = {"ids": ids(second), "befores": befores}
    before, took = opened, []
    for _ in range(INVOCATIONS):
        began = time.perf_counter()
        handler(http_api("measured"), object())
        took.append(time.perf_counter() - began)
    seen["connections"], seen["milliseconds"] = opened - before, round(median(took) * 1000)
    return seen


if __name__ == "__main__":
    print(json.dumps({lifespan: invoked(lifespan) for lifespan in ("auto", "off")}))
