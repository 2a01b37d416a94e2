"""The page, the API and the state of health as one web application."""

import argparse
import gc
import socket
import time
from typing import Any

import gradio as gr
import page
from fastapi import FastAPI
from limits import LimitBody
from served import HERE, Served
from stopping import Door, Server

# Room for what a form and base64 add to an upload.
_OVERHEAD = 4 / 3 * 1.05


def create(served: Served, options: argparse.Namespace, *, started: float) -> Door:
    """The application, to be run by an ASGI server."""
    app = FastAPI(title=served.title, docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/healthz")
    def health() -> dict[str, Any]:
        return {
            "status": "ok",
            "model": served.title,
            "step": served.predictor.step,
            "accuracy": served.accuracy,
            "uptime_seconds": round(time.monotonic() - started, 1),
        }

    demo = page.build(
        served, max_queue=options.max_queue, concurrency=options.concurrency
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
        # The fonts of the themes would be fetched from elsewhere.
        theme=gr.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
        css_paths=HERE / "style.css",
    )
    app.add_middleware(LimitBody, limit=int(options.max_upload * 10**6 * _OVERHEAD))
    return Door(app, lambda: page.unfinished(demo))


def serve(
    served: Served,
    listener: socket.socket,
    options: argparse.Namespace,
    *,
    started: float,
    grace: int,
) -> None:
    """Serves until a signal stops it, then finishes what is in flight.

    Args:
        served: the model, warmed up.
        listener: the socket, bound.
        options: of the command line.
        started: when the process did, by ``time.monotonic()``.
        grace: seconds for what is in flight.
    """
    server = Server(
        create(served, options, started=started),
        grace=grace,
        log_level="warning",
        # Under load a request can wait longer than the usual 5 seconds to be read.
        timeout_keep_alive=60,
        ws="none",
    )
    listener.listen(server.config.backlog)  # whoever reads the next line can connect
    host, port = listener.getsockname()[:2]
    print(
        f"{served.title} on http://{host}:{port} after "
        f"{time.monotonic() - started:.1f} s; Ctrl-C stops it",
        flush=True,
    )
    # What has been loaded stays, and need not be looked through under load.
    gc.freeze()
    gc.enable()
    server.run(sockets=[listener])
