"""The app in this process, on a free port, with a model of random weights."""

import contextlib
import json
import threading
import time
from dataclasses import replace

import app
import pytest
from classifier import Classifier
from format_fixtures import make_predictor
from PIL import Image

from jax_resnet.checkpoint import model_folder
from jax_resnet.predictor import Predictor

REPORT = {
    **{"step": 9, "n": 100, "dataset": "grey", "split": "test", "loss": 1.0},
    **{"top1": 0.5, "top5": 0.9, "ece": 0.1},
    "per_class": [{"name": "raccoon", "count": 10, "accuracy": 0.25}],
}
# Some of them are on the demo's examples.
CLASSES = (
    "apple",
    "raccoon",
    "rocket",
    "cup",
    "sea",
    "bus",
    "x_y",
    "plate",
    "man",
    "fox",
)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """An exported model with an evaluation beside it."""
    path = tmp_path_factory.mktemp("100%25\n")  # a place with an odd name
    stored = make_predictor(num_classes=10).stored
    dataset = replace(stored.metadata.dataset, class_names=CLASSES)
    metadata = replace(stored.metadata, dataset=dataset)
    model_folder.write(path, replace(stored, metadata=metadata))
    (path / "evaluation-test.json").write_text(json.dumps(REPORT))
    (path / "evaluation-test").mkdir()
    Image.new("RGB", (9, 9)).save(path / "evaluation-test" / "mistakes.png")
    return path


@pytest.fixture(scope="session")
def serving(tmp_path_factory):
    """``with serving(predictor, *arguments) as (server, address)``."""
    pytest.importorskip("gradio", reason="the extra 'serve' is not installed")
    server = app.import_server(str(tmp_path_factory.mktemp("uploads")))

    @contextlib.contextmanager
    def serve(predictor, *arguments):
        options = app.parse(["--port", "0", *arguments])
        running = server.create(Classifier(predictor), options)
        with app.bind(options.host, options.port) as listener:
            listener.listen()
            thread = threading.Thread(target=running.run, args=[[listener]])
            thread.start()
            while not running.started:
                time.sleep(0.01)
            yield running, f"http://127.0.0.1:{listener.getsockname()[1]}"
            running.should_exit = True
            thread.join(20)

    return serve


@pytest.fixture(scope="session")
def address(serving, folder):
    with serving(Predictor.open(folder, batch_size=2)) as (_, address):
        yield address
