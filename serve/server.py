"""The web application: the page, the API, ``/healthz``, and a graceful stop.

An answer of the API takes two requests: a POST that asks, and a GET that fetches the
answer. When SIGTERM comes, new POST requests get HTTP 503, and the server stays up
until the answers of the earlier ones have been fetched.
"""

import argparse
import asyncio
import math
import socket
import time
from collections.abc import Callable
from typing import Any

import gradio as gr
import page
import uvicorn
from classifier import HERE, Classifier
from fastapi import FastAPI, HTTPException
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

GRACE = 10.0  # seconds from the signal until open requests are dropped
_TO_FETCH = 2.0  # seconds that a client has to come back for its answer
# A form and base64 make an upload larger.
_OVERHEAD = 4 / 3 * 1.05
_STOPPING = JSONResponse(
    {"detail": "The app is being stopped. Ask again in a moment."},
    status_code=503,
    headers={"Retry-After": "10", "Connection": "close"},
)


class LimitBody:
    """ASGI middleware: answers HTTP 413 to a request with a larger body."""

    def __init__(self, app: ASGIApp, limit: int):
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a connection."""
        received = 0
        text = f"A request may have {self._limit:,} bytes, and this has more.\n"

        async def limited_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                raise HTTPException(413, text)
            return message

        headers = dict(scope.get("headers", ()))
        if int(headers.get(b"content-length", 0)) > self._limit:
            await PlainTextResponse(text, 413)(scope, receive, send)
        else:
            await self._app(scope, limited_receive, send)


class Drain:
    """ASGI middleware that counts the clients being served, and can refuse new ones.

    ``unfinished`` returns how many accepted requests have no answer yet.
    """

    def __init__(self, app: ASGIApp, unfinished: Callable[[], int]):
        self.draining = False
        self._app = app
        self._unfinished = unfinished
        self._posting = 0
        self._last_post = -math.inf

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a connection."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
        elif self.draining:
            await _STOPPING(scope, receive, send)
        else:
            self._posting += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._posting -= 1
                self._last_post = time.monotonic()

    @property
    def busy(self) -> bool:
        """Whether a client is being served, or may be about to fetch an answer."""
        fetching = time.monotonic() - self._last_post < _TO_FETCH
        return bool(self._posting or self._unfinished() or fetching)


class Server(uvicorn.Server):
    """Stops when all accepted requests are answered, or after ``grace`` seconds."""

    def __init__(self, app: Drain, *, grace: float = GRACE):
        config = uvicorn.Config(
            app,
            log_level="warning",
            ws="none",
            # Under load a request can wait longer than the usual 5 seconds to be read.
            timeout_keep_alive=60,
            timeout_graceful_shutdown=1,  # for answers that are still being sent
        )
        super().__init__(config)
        self._app = app
        self._grace = grace - 1

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answers the open requests, then closes the port."""
        self._app.draining = True
        end = time.monotonic() + self._grace
        while self._app.busy and time.monotonic() < end and not self.force_exit:
            await asyncio.sleep(0.05)
        await super().shutdown(sockets)


def create(classifier: Classifier, options: argparse.Namespace) -> Drain:
    """Builds the application from the command line's options."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    started = time.monotonic()

    @app.get("/healthz")
    def health() -> dict[str, Any]:
        return {
            "status": "ok",
            "model": classifier.title,
            "step": classifier.predictor.step,
            "accuracy": classifier.accuracy,
            "uptime_seconds": round(time.monotonic() - started, 1),
        }

    demo = page.build(
        classifier, max_queue=options.max_queue, concurrency=options.concurrency
    )
    gr.mount_gradio_app(
        app,
        demo,
        path="/",
        server_name=options.host,
        server_port=options.port,
        max_file_size=options.max_upload * 10**6,
        show_error=False,  # the texts of exceptions have paths of the server in them
        run_history=False,
        footer_links=["api"],
        ssr_mode=False,
        # The themes' own fonts come from another server.
        theme=gr.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
        css_paths=HERE / "style.css",
    )
    app.add_middleware(LimitBody, limit=int(options.max_upload * 10**6 * _OVERHEAD))
    return Drain(app, lambda: len(demo._queue.event_ids_to_events))


def serve(
    classifier: Classifier, listener: socket.socket, options: argparse.Namespace
) -> None:
    """Serves on a bound socket until a signal comes."""
    server = Server(create(classifier, options))
    listener.listen(server.config.backlog)
    host, port = listener.getsockname()[:2]
    print(f"{classifier.title} on http://{host}:{port} (Ctrl-C stops it)", flush=True)
    server.run(sockets=[listener])
