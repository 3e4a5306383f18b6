"""Sweeps for expired sessions while a lifespan runs; imported for a store that has expiry alone."""

from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hermes_session_mw.asgi.lifespan import serve_lifespan
from hermes_session_mw.asgi.options import MiddlewareOptions
from hermes_session_mw.logging import logger
from hermes_session_mw.session.expiry_sweeper import ExpirySweeper
from hermes_session_mw.session.store_client import DEFAULT_TIMEOUT
from hermes_session_mw.stores.expiry import ExpiryStore


class LifespanSweeps:
    """Serves lifespans, with a sweeper between startup and shutdown of each."""

    def __init__(self, expiry: ExpiryStore, options: MiddlewareOptions) -> None:
        self._expiry, self._options = expiry, options
        self._stop_timeout = options.store_timeout or DEFAULT_TIMEOUT
        self._is_noted = False

    async def serve_lifespan(
        self,
        app: ASGIApp,
        scope: Scope,
        receive: Receive,
        send: Send,
        close: Callable[[], Awaitable[None]],
    ) -> None:
        """Serve a lifespan as `lifespan.serve_lifespan` does; sweeps begin after the startup."""
        options = self._options
        sweeper = ExpirySweeper(self._expiry, options.sweep_interval, options.telemetry)

        async def send_and_start(message: Message) -> None:
            await send(message)
            if message["type"] == "lifespan.startup.complete":
                self._is_noted = True
                sweeper.start()

        async def stop_and_close() -> None:
            await sweeper.stop(self._stop_timeout)
            await close()

        try:
            await serve_lifespan(app, scope, receive, send_and_start, stop_and_close)
        finally:
            sweeper.request_stop()

    def note_request(self) -> None:
        """Warn, once, of a request without a lifespan: nothing is swept in this process."""
        if not self._is_noted:
            self._is_noted = True
            logger.warning(
                "expired sessions are not removed by this process: no lifespan of "
                "HermesSessionMiddleware runs in it. Wrap the whole application, and use a server "
                "that serves lifespans; or run 'hermes-sessions prune', or store.prune, by cron"
            )
