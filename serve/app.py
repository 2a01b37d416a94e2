"""The demo: ``python serve/app.py --model runs/resnet56``."""

import argparse
import gc
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

STARTED = time.monotonic()
# It would look through all that is being loaded, again and again, for a quarter of the
# time until the app serves, and find next to nothing.
gc.disable()

from batching import Explain  # noqa: E402 (the clock starts first)
from served import Served, default_model  # noqa: E402

from jax_resnet.distributed import device  # noqa: E402
from jax_resnet.predict import Predictor  # noqa: E402
from jax_resnet.runtime.command_line import Parser, run  # noqa: E402
from jax_resnet.runtime.errors import UserError  # noqa: E402

GRACE = 10  # seconds for what is in flight when the app is stopped


def main(
    arguments: Sequence[str] | None = None,
    *,
    computing: Callable[[Predictor], Explain] | None = None,
) -> int:
    """The command line; returns the exit code.

    Args:
        arguments: of the command line.
        computing: makes what answers in the model's place, for comparisons.
    """
    options = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with (
        bind(options.host, options.port) as listener,
        tempfile.TemporaryDirectory(prefix="jax_resnet-") as uploads,
        ThreadPoolExecutor(1) as background,
    ):
        # What the app needs is read while the model compiles.
        application = background.submit(import_application, uploads)
        chosen = device.select(options.device, "--device")
        device.cache_compilations("", chosen)
        path = options.model or default_model()
        predictor = Predictor.open(
            path, options.checkpoint, batch_size=options.max_batch
        )
        explain = computing(predictor) if computing else None
        served = Served(predictor, max_batch=options.max_batch, explain=explain)
        served.warm_up()
        application.result().serve(
            served, listener, options, started=STARTED, grace=GRACE
        )
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command line.

    Raises:
        UserError: if one is not what it must be.
    """
    parser = Parser(
        prog="python serve/app.py",
        description="Serves a trained model as a page and an API.",
    )
    parser.add_argument(
        "--model",
        type=Path,
        help="a run directory or an exported folder; default: the model beside the "
        "app, or the most accurate in results/",
    )
    parser.add_argument(
        "--checkpoint", default="best", help="best (the default), latest or a step"
    )
    parser.add_argument(
        "--host", default=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1")
    )
    parser.add_argument(
        "--port", type=int, default=os.environ.get("GRADIO_SERVER_PORT", "7860")
    )
    parser.add_argument("--device", default="auto", help="auto, gpu or cpu")
    limits = {
        "max-upload": (10, "megabytes of an upload"),
        "max-queue": (200, "requests that may wait; more get HTTP 503"),
        "concurrency": (16, "requests in work at a time"),
        "max-batch": (8, "images in a call of the model"),
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
    for name in limits:
        if (value := getattr(options, name.replace("-", "_"))) < 1:
            raise UserError(f"--{name} must be at least 1, not {value}")
    return options


def bind(host: str, port: int) -> socket.socket:
    """Takes a port now; nobody can connect before the server listens.

    Raises:
        UserError: if it cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except (OSError, OverflowError) as error:
        raise UserError(
            f"cannot listen on {host}:{port} ({getattr(error, 'strerror', error)}): "
            "choose another --host or --port"
        ) from error
    return listener


def import_application(uploads: str) -> Any:
    """The module ``application``, and with it Gradio, set up by its environment.

    Args:
        uploads: the folder where it keeps what people send.
    """
    os.environ["GRADIO_TEMP_DIR"] = uploads
    settings = {
        "GRADIO_ANALYTICS_ENABLED": "False",
        # Statistics of its requests, which it would make anew at each of them.
        "GRADIO_ANALYTICS_CACHE_FREQUENCY": "1000000000",
        "GRADIO_ANALYTICS_MAX_EVENTS": "1000",
        # It asks what is drawn with, and matplotlib imports all it has to find that.
        "MPLBACKEND": "agg",
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    import application

    return application


if __name__ == "__main__":
    run(main)
