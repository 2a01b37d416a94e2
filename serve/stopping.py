"""A server that stops when it has answered what it has accepted.

An answer of the API takes two requests, one that asks and one that fetches. Whoever has
asked when the signal comes can still fetch; whoever asks later gets HTTP 503.
"""

import asyncio
import math
import socket
import time
from collections.abc import Callable

import uvicorn
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_TO_FETCH = 2.0  # seconds after asking, for the request that fetches to arrive
_REFUSAL = JSONResponse(
    {"detail": "The app is being stopped. Ask again in a moment."},
    status_code=503,
    headers={"Retry-After": "10", "Connection": "close"},
)


class Door:
    """ASGI middleware that knows who is being served, and can be shut to others.

    Args:
        app: what is behind it.
        unfinished: how many requests the app has accepted and still works on.
    """

    def __init__(self, app: ASGIApp, unfinished: Callable[[], int]):
        self._app = app
        self._unfinished = unfinished
        self._asking = 0
        self._last = -math.inf
        self._shut = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a connection."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
        elif self._shut:
            await _REFUSAL(scope, receive, send)
        else:
            self._asking += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._asking -= 1
                self._last = time.monotonic()

    def shut(self) -> None:
        """From now on nobody else can ask."""
        self._shut = True

    @property
    def busy(self) -> bool:
        """Whether anybody is being served, or may be on the way to fetch an answer."""
        on_the_way = time.monotonic() - self._last < _TO_FETCH
        return bool(self._asking or self._unfinished() or on_the_way)


class Server(uvicorn.Server):
    """A server of what is behind a door.

    Args:
        door: the application.
        grace: seconds for those who are being served when a signal stops it.
        settings: of :class:`uvicorn.Config`.
    """

    def __init__(self, door: Door, *, grace: float, **settings: object):
        # The second is for answers that are being sent when all are finished.
        super().__init__(uvicorn.Config(door, timeout_graceful_shutdown=1, **settings))
        self._door = door
        self._grace = grace - 1

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Serves those who are inside, then closes the port."""
        self._door.shut()
        end = time.monotonic() + self._grace
        while self._door.busy and time.monotonic() < end and not self.force_exit:
            await asyncio.sleep(0.05)
        await super().shutdown(sockets)
