"""Progressive resizing: the sizes, the pixels, and a run that also keeps an average."""

import shutil

import jax
import numpy as np
import pytest
from command_line import (
    assert_same_run,
    final_arrays,
    jax_settings_restored,
    records,
    unchecked,
)
from PIL import Image
from step_fixtures import StopAfter

from jax_resnet import config
from jax_resnet.augment.geometry import resize
from jax_resnet.checkpoint import store
from jax_resnet.distributed.mesh import DeviceMesh
from jax_resnet.distributed.processes import Processes
from jax_resnet.runtime.errors import UserError
from jax_resnet.training.image_sizes import describe, sizes_by_epoch
from jax_resnet.training.run import train
from jax_resnet.training.task import Task

ONE = DeviceMesh((jax.devices()[0],))
FIELDS = (
    "--config.train.image_sizes=((0, 8), (2, 12))",
    "--config.ema.decay=0.8",
    "--config.ema.statistics_steps=3",
    "--config.train.steps_per_call=1",
)


@pytest.mark.parametrize("size", [8, 20])
def test_pixels_are_those_of_pillow(size):
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    found = jax.jit(resize, static_argnums=1)(images, size)
    for i, channel in np.ndindex(2, 3):  # Pillow has floats of one channel alone
        image = Image.fromarray(images[i, ..., channel])
        expected = image.resize((size, size), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(found[i, ..., channel], expected, atol=1e-5)


def test_sizes_by_epoch():
    stages = [[0, 20], [2, 24], [5, 32]]
    found = sizes_by_epoch(stages, 6, (32, 32, 3))
    assert found == [20, 20, 24, 24, 24, 32]
    text = "20 from epoch 1 on, 24 from epoch 3 on, 32 from epoch 6 on"
    assert describe(stages) == text
    assert sizes_by_epoch((), 2, (28, 20, 1)) == [None, None]
    assert describe(()) == ""


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (((1, 20),), "begin at epoch 0, not 1"),
        (((0, 20), (5, 24), (5, 32)), r"have epochs that grow, not \[0, 5, 5\]"),
        (((0, 24), (5, 20)), r"have sizes that grow, not \[24, 20\]"),
        (((0, 22),), r"multiples of 4, not \[22\]"),
        ((20,), r"pairs such as .*, not 20"),
        (((0, 40),), "fit into square images, and these are 32x40"),
    ],
)
def test_bad_sizes(stages, message):
    with pytest.raises(UserError, match=f"train.image_sizes must .*{message}"):
        sizes_by_epoch(stages, 10, (32, 40, 3))


@pytest.fixture(scope="module")
def train_tiny(tiny):
    """Trains three epochs in this process, or stops on the way."""

    def train_in(workdir, interrupt):
        settings = config.load(str(tiny), FIELDS)
        task = Task(settings, workdir, "tiny", "", say=lambda line: None)
        return train(task, Processes(), interrupt, ONE)

    with jax_settings_restored(), unchecked():
        yield train_in


@pytest.fixture(scope="module")
def grown(train_tiny, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("grown") / "run"
    assert train_tiny(workdir, StopAfter()).stopped_by is None
    return workdir


@pytest.mark.slow
def test_reports_name_the_sizes_and_the_average(grown):
    assert [record["image_size"] for record in records(grown)] == [8, 8, 12]
    log = (grown / "log.md").read_text()
    assert "| image sizes | 8 from epoch 1 on, 12 from epoch 3 on" in log
    assert "| evaluated | an average of the weights, decay 0.8 |" in log
    latest = store.select(grown, "latest")
    model, training = latest.arrays("model"), latest.arrays("training")
    own = [name for name in model if name.startswith("state.params.")]
    for name in own:
        average = training[name.replace("state.", "state.average.", 1)]
        np.testing.assert_array_equal(model[name], average)
    assert any((training[name] != model[name]).any() for name in own)


@pytest.mark.slow
def test_a_run_that_stops_within_an_epoch_resumes_to_the_same_bits(
    train_tiny, grown, tmp_path
):
    workdir = tmp_path / "run"
    # In the second epoch: each of 8 steps of training, 3 of statistics and 3 of
    # evaluation asks twice.
    stopped = train_tiny(workdir, StopAfter(40))
    assert stopped.stopped_by and len(stopped.metadata.history) == 1
    assert int(final_arrays(workdir)["state.step"]) % 8
    assert train_tiny(workdir, StopAfter()).stopped_by is None
    assert_same_run(workdir, grown)


@pytest.mark.slow
def test_a_run_that_lacks_its_last_report_gets_it(train_tiny, grown, tmp_path):
    workdir = shutil.copytree(grown, tmp_path / "run")
    summary = (workdir / "summary.json").read_text()
    unfinished = summary.replace('"complete": true', '"complete": false')
    (workdir / "summary.json").write_text(unfinished)
    train_tiny(workdir, StopAfter())
    assert '"complete": true' in (workdir / "summary.json").read_text()
