"""The web application: the page, the API and ``/healthz``."""

import argparse
import ipaddress
import socket
import time
from pathlib import Path
from typing import Any

import gradio as gr
import page
import uvicorn
from classifier import HERE, Classifier
from fastapi import FastAPI, HTTPException
from gradio import route_utils
from starlette.datastructures import FormData
from starlette.responses import FileResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jax_resnet.runtime.text import say

GRACE = 10  # seconds from the signal to stop until open requests are dropped
# A form and base64 make an upload larger.
_OVERHEAD = 4 / 3 * 1.05


class LimitBody:
    """ASGI middleware: answers HTTP 413 to a request with a larger body.

    Uploads have their own limit: the page sends several files in one request, which go
    to the disk, and Gradio limits the size of each.
    """

    def __init__(self, app: ASGIApp, limit: int, upload_limit: int):
        self._app = app
        self._limit = limit
        self._upload_limit = upload_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a connection."""
        received = 0
        is_upload = scope.get("path") == "/gradio_api/upload"
        limit = self._upload_limit if is_upload else self._limit
        text = f"A request may have {limit:,} bytes, and this has more.\n"

        async def limited_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise HTTPException(413, text)
            return message

        headers = dict(scope.get("headers", ()))
        if int(headers.get(b"content-length", 0)) > limit:
            await PlainTextResponse(text, 413)(scope, receive, send)
        else:
            await self._app(scope, limited_receive, send)


class UploadParser(route_utils.GradioMultiPartParser):
    """Gradio's parser of uploads, without what would stay after them.

    Gradio keeps fields that are no files in memory, and the files of an upload that the
    client does not finish on the disk.
    """

    def __init__(self, *args: Any, **settings: Any):
        super().__init__(*args, **settings | {"max_fields": 0})

    async def parse(self) -> FormData:
        """Parses the request; deletes its files if that fails."""
        try:
            return await super().parse()
        except BaseException:
            for file in self._files_to_close_on_error:
                file.close()
                Path(file.name).unlink(missing_ok=True)
            raise


def create(classifier: Classifier, options: argparse.Namespace) -> uvicorn.Server:
    """Builds the server from the command line's options.

    When it is stopped, it answers the open requests, for at most :data:`GRACE` seconds.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    _add_routes(app, classifier)
    route_utils.GradioMultiPartParser = UploadParser
    demo = page.build(
        classifier,
        max_queue=options.max_queue,
        concurrency=options.concurrency,
        max_pictures=options.max_pictures,
    )
    body_limit = int(options.max_upload * 10**6 * _OVERHEAD)
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
        theme=_theme(),
        css_paths=HERE / "style.css",
    )
    app.add_middleware(
        LimitBody, limit=body_limit, upload_limit=options.max_pictures * body_limit
    )
    config = uvicorn.Config(
        app,
        log_level="warning",
        ws="none",
        # Under load a request can wait longer than the usual 5 seconds to be read.
        timeout_keep_alive=60,
        timeout_graceful_shutdown=GRACE,
    )
    return uvicorn.Server(config)


def _add_routes(app: FastAPI, classifier: Classifier) -> None:
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

    @app.api_route("/gradio_api/file=http{address:path}", methods=["GET", "HEAD"])
    def refuse_address() -> None:  # Gradio would fetch it for whoever asks
        raise HTTPException(403, "Addresses are not fetched.")

    _, mistakes = classifier.evaluation or (None, None)
    if mistakes:
        app.get("/mistakes.png")(lambda: FileResponse(mistakes))


def _theme() -> gr.themes.Base:
    # The theme's own fonts come from another server, and some of its texts have less
    # contrast than WCAG 2 asks for (4.5).
    theme = gr.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    # Its method ``set`` would also reset what the theme had set itself.
    theme.body_text_color_subdued = "*neutral_500"
    theme.color_accent = "*primary_600"
    theme.block_label_text_color = "*primary_700"
    theme.block_title_text_color = "*primary_700"
    return theme


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
