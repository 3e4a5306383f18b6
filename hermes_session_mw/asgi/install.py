"""Adds the middleware to a Starlette application, outside of the framework's own middleware."""

from typing import TypeVar, Unpack

from starlette.applications import Starlette
from starlette.types import ASGIApp

from hermes_session_mw.asgi.middleware import HermesSessionMiddleware
from hermes_session_mw.asgi.options import OptionArguments, with_options
from hermes_session_mw.exceptions import ConfigurationError
from hermes_session_mw.stores import StoreLike

AnyStarlette = TypeVar("AnyStarlette", bound=Starlette)

_INSTALLED = "_hermes_session_mw"


@with_options
def install(
    app: AnyStarlette,
    store: StoreLike = "sqlite:///hermes_sessions.db",
    **options: Unpack[OptionArguments],
) -> AnyStarlette:
    """Make ``HermesSessionMiddleware`` the outermost layer of a Starlette or FastAPI application.

    ``app`` is changed in place, and returned. ``app.add_middleware`` would put the middleware
    inside the framework's own error page and body limit, whose responses it could then not stamp.
    Calling it again changes nothing, whatever the arguments: a test creates the application anew,
    or wraps it in a ``HermesSessionMiddleware`` of its own, which then takes precedence.

    Raises:
        ConfigurationError: an option has a value that cannot work, or ``app`` has served already.
    """
    if not isinstance(app, Starlette):
        raise ConfigurationError(
            f"install: {type(app).__name__} is neither a Starlette nor a FastAPI application; "
            "wrap it: HermesSessionMiddleware(app, ...)"
        )
    if hasattr(app, _INSTALLED):
        return app
    if app.middleware_stack is not None:
        raise ConfigurationError(
            "install: the application has begun to serve; install before its first request, "
            "and before its lifespan"
        )
    middleware = HermesSessionMiddleware(app, store, **options)
    # Only an outer router is outside of it now; the key "app" is in every scope that reaches it.
    middleware.framework_key = "router"
    build = app.build_middleware_stack

    def build_outermost() -> ASGIApp:
        middleware.app = build()
        return middleware

    setattr(app, "build_middleware_stack", build_outermost)  # noqa: B010  # the instance's own
    setattr(app, _INSTALLED, middleware)
    return app
