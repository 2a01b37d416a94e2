"""The demo: ``python serve/app.py --model runs/resnet56``."""

import argparse
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

from jax_resnet.runtime.command_line import Parser, run
from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.packages import require
from jax_resnet.runtime.paths import path_argument


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    options = parse(arguments)
    require("gradio", extra="serve")
    if threading.current_thread() is threading.main_thread():  # no other may
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with (
        bind(options.host, options.port) as listener,
        tempfile.TemporaryDirectory(prefix="jax_resnet-") as uploads,
        ThreadPoolExecutor(1) as background,
    ):
        # Gradio is imported while the model compiles.
        server = background.submit(import_server, uploads)
        from classifier import Classifier, default_model

        from jax_resnet.distributed import device
        from jax_resnet.predictor import Predictor

        device.cache_compilations("", device.select(options.device))
        model = options.model or default_model()
        classifier = Classifier(Predictor.open(model, options.checkpoint))
        classifier.warm_up()
        server.result().serve(classifier, listener, options)
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parses the command line.

    Raises UserError if an option is invalid.
    """
    parser = Parser(
        prog="python serve/app.py",
        description="Serves a trained model as a page and an API.",
    )
    parser.add_argument(
        "--model",
        type=path_argument,
        help="a run directory or an exported folder; default: the model beside the "
        "app, or the most accurate one in results/",
    )
    parser.add_checkpoint()
    parser.add_argument(
        "--host", default=os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1"
    )
    parser.add_argument(
        "--port", type=int, default=os.environ.get("GRADIO_SERVER_PORT") or "7860"
    )
    parser.add_argument("--device", default="auto", help="auto, gpu or cpu")
    limits = {
        "max-upload": (10, "size limit of an upload in megabytes"),
        "max-queue": (200, "requests that may wait; further ones get HTTP 503"),
        "concurrency": (16, "requests processed at the same time"),
        "max-pictures": (20, "pictures in one request of the page"),
    }
    for name, (default, meaning) in limits.items():
        parser.add_argument(
            f"--{name}",
            type=int,
            default=default,
            metavar="N",
            help=f"{meaning}; default {default}",
        )
    options = parser.parse_args(arguments)
    if not 0 <= options.port < 2**16:  # the operating system would cut it
        raise UserError(f"--port must be from 0 to 65535, not {options.port}")
    for name in limits:
        if (value := getattr(options, name.replace("-", "_"))) < 1:
            raise UserError(f"--{name} must be at least 1, not {value}")
    return options


def bind(host: str, port: int) -> socket.socket:
    """Reserves a port. Nobody can connect before the server listens.

    An IPv6 address may stand in brackets. Raises UserError if the port is taken or the
    host is not one of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except (OSError, UnicodeError) as error:  # of a name as "a..b"
        raise UserError(
            f"cannot listen on {host}:{port} ({getattr(error, 'strerror', error)}): "
            "choose another --host or --port"
        ) from error
    return listener


def import_server(uploads: str) -> ModuleType:
    """Imports the module ``server``, and Gradio with its settings.

    Args:
        uploads: folder for the files that visitors upload.
    """
    os.environ["GRADIO_TEMP_DIR"] = uploads
    settings = {
        "GRADIO_ANALYTICS_ENABLED": "False",
        # Gradio would recompute statistics of its requests at each request.
        "GRADIO_ANALYTICS_CACHE_FREQUENCY": "1000000000",
        "GRADIO_ANALYTICS_MAX_EVENTS": "1000",
        # Otherwise Gradio makes matplotlib import every backend to find one.
        "MPLBACKEND": "agg",
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    import server

    return server


if __name__ == "__main__":
    run(main)
