"""A limit on the size of requests, for all that a server reads into memory."""

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class LimitBody:
    """ASGI middleware: a request with a larger body gets HTTP 413.

    Args:
        app: what it protects.
        limit: bytes.
    """

    def __init__(self, app: ASGIApp, limit: int):
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        read, answering = 0, False

        async def refuse() -> None:
            nonlocal answering
            if not answering:
                answering = True
                text = f"A request may have {self._limit:,} bytes, and this has more.\n"
                await PlainTextResponse(text, 413)(scope, receive, send)

        async def limited_receive() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._limit:
                await refuse()
                return {"type": "http.disconnect"}
            return message

        async def observed_send(message: Message) -> None:
            nonlocal answering
            if read <= self._limit:
                answering = True
                await send(message)

        if int(announced) > self._limit:
            await refuse()
        else:
            await self._app(scope, limited_receive, observed_send)
