"""The web application: the page, the API and ``/healthz``."""

import argparse
import ipaddress
import socket
import time
from typing import Any

import gradio as gr
import page
import uvicorn
from classifier import HERE, Classifier
from fastapi import FastAPI, HTTPException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jax_resnet.runtime.text import say

GRACE = 10  # seconds from the signal to stop until open requests are dropped
# A form and base64 make an upload larger.
_OVERHEAD = 4 / 3 * 1.05


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


def create(classifier: Classifier, options: argparse.Namespace) -> uvicorn.Server:
    """Builds the server from the command line's options.

    When it is stopped, it answers the open requests, for at most :data:`GRACE` seconds.
    """
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
    config = uvicorn.Config(
        app,
        log_level="warning",
        ws="none",
        # Under load a request can wait longer than the usual 5 seconds to be read.
        timeout_keep_alive=60,
        timeout_graceful_shutdown=GRACE,
    )
    return uvicorn.Server(config)


def serve(
    classifier: Classifier, listener: socket.socket, options: argparse.Namespace
) -> None:
    """Serves on a bound socket until a signal comes."""
    server = create(classifier, options)
    listener.listen(server.config.backlog)
    say(f"{classifier.title} on {url(listener)} (Ctrl-C stops it)")
    server.run(sockets=[listener])


def url(listener: socket.socket) -> str:
    """Returns the address of a bound socket, for a browser on this machine."""
    host, port = listener.getsockname()[:2]
    is_v6 = listener.family == socket.AF_INET6
    if ipaddress.ip_address(host).is_unspecified:  # listens on all addresses
        host = "::1" if is_v6 else "127.0.0.1"
    return f"http://[{host}]:{port}" if is_v6 else f"http://{host}:{port}"
