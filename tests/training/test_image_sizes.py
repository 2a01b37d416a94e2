"""Images that are smaller in early epochs: their sizes, their pixels, their runs."""

import re
import shutil
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command_line import (
    assert_one_line,
    assert_same_run,
    interrupted,
    records,
    run,
    start,
    wait_for,
)
from parallel_fixtures import PREPROCESSING, STEPS_PER_EPOCH, Steps, batch_of
from PIL import Image

from jax_resnet.augment.geometry import resize
from jax_resnet.augment.mixup import make_mix
from jax_resnet.runtime.errors import UserError
from jax_resnet.training.image_sizes import ImageSizes
from jax_resnet.training.loss import Loss

STAGES = ((0, 4), (2, 8))
SIZES = "--config.train.image_sizes=((0, 16), (1, 24), (2, 32))"
EMA = ("--config.ema.decay=0.8", "--config.ema.statistics_steps=3")
GROWING = (SIZES, *EMA)


def by_pillow(images, size):
    """Each channel on its own, as Pillow has floats of one channel alone."""
    resized = np.empty((len(images), size, size, images.shape[-1]), np.float32)
    for i, c in np.ndindex(len(images), images.shape[-1]):
        channel = Image.fromarray(np.asarray(images[i, ..., c]))
        assert channel.mode == "F"
        resized[i, ..., c] = channel.resize((size, size), Image.Resampling.BILINEAR)
    return resized


@pytest.mark.parametrize("size", [8, 20, 24, 28, 32])
def test_pixels_are_those_of_pillow(size):
    images = np.random.default_rng(0).normal(size=(3, 32, 32, 3)).astype(np.float32)
    found = jax.jit(resize, static_argnums=1)(images, size)
    np.testing.assert_allclose(found, by_pillow(images, size), atol=1e-5)


def test_without_a_size_images_stay_what_they_are():
    images = jnp.zeros((1, 4, 6, 3))
    assert resize(images, None) is images


def test_sizes_by_epoch():
    sizes = ImageSizes.from_config([[0, 20], [30, 24], [65, 32]])
    assert [sizes.at(epoch) for epoch in (0, 29, 30, 64, 65, 1000)] == [
        *(20, 20, 24, 24, 32, 32)
    ]
    assert sizes.distinct(0, 100) == [20, 24, 32]
    assert sizes.distinct(64, 65) == [24]
    assert sizes.distinct(100, 100) == []
    multiply_adds = 30 * 20 * 20 + 35 * 24 * 24 + 35 * 32 * 32
    assert sizes.relative_cost(100, 32) == pytest.approx(multiply_adds / 102400)
    assert sizes.describe(100, 32) == (
        "20 from epoch 1 on, 24 from epoch 31 on, 32 from epoch 66 on: "
        "66% of the multiply-adds at 32"
    )
    none = ImageSizes()
    assert none.at(7) is None
    assert none.distinct(0, 3) == [None]
    assert none.relative_cost(3, 32) == 1
    assert none.describe(3, 32) == ""


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (((1, 20),), "begin at epoch 0, not 1"),
        (((0, 20), (5, 24), (5, 32)), r"have epochs that grow, not \[0, 5, 5\]"),
        (((0, 24), (5, 20)), r"have sizes that grow, not \[24, 20\]"),
        (((0, 24), (5, 24)), r"have sizes that grow, not \[24, 24\]"),
        (((0, 22),), r"multiples of 4, not \[22\]"),
        (((0, 0),), r"multiples of 4, not \[0\]"),
        (((0, -4),), r"multiples of 4, not \[-4\]"),
        ((20,), r"pairs such as .*, not \(20,\)"),
        (((0, 20, 3),), "pairs such as"),
        (((0, 20.0),), "pairs such as"),
        (((0, True),), "pairs such as"),
        (("ab",), "pairs such as"),
    ],
)
def test_bad_sizes(stages, message):
    with pytest.raises(UserError, match=f"train.image_sizes must .*{message}"):
        ImageSizes.from_config(stages)


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 40, 3)])
def test_sizes_that_do_not_fit_the_images(shape):
    with pytest.raises(UserError, match=r"no size above that of the images|not square"):
        ImageSizes(((0, 32),)).check_fits(shape)
    ImageSizes().check_fits(shape)


def prepared(preprocessing, step):
    images, labels, keys = batch_of(step)
    loss = Loss(Steps(1).graphdef, preprocessing)
    prepare = jax.jit(loss.prepare_batch)
    return prepare(images, labels, keys, step // STEPS_PER_EPOCH)


@pytest.mark.parametrize("mixed", [False, True])
def test_images_are_resized_after_all_else(mixed):
    mix = make_mix(mixup=0.2, cutmix=1.0, probability=1.0) if mixed else None
    full = replace(PREPROCESSING, mix=mix)
    expected, found = prepared(full, 3), prepared(replace(full, image_size=4), 3)
    np.testing.assert_allclose(
        found.pop("images"), by_pillow(expected.pop("images"), 4), atol=1e-5
    )
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def after(steps, count):
    at, losses = steps.state, []
    for _ in range(count):
        at, sums = steps(at)
        losses.append(float(sums.loss))
    return at, losses


@pytest.fixture(scope="module")
def one():
    return Steps(1, image_sizes=STAGES, ema_decay=0.5, learning_rate=1e-3)


def test_each_epoch_has_its_size_on_any_devices(one):
    last = 2 * STEPS_PER_EPOCH - 1  # at the small size
    full = Steps(1, ema_decay=0.5, learning_rate=1e-3)
    others = Steps(
        4, image_sizes=STAGES, ema_decay=0.5, learning_rate=1e-3, streamed=True
    )
    at, losses = after(one, last + 2)
    found, other_losses = after(others, last + 2)
    np.testing.assert_allclose(other_losses, losses, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(at), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    before, _ = after(one, last)
    assert abs(float(full(before)[1].loss) - losses[last]) > 0.1
    first, _ = one(before)
    np.testing.assert_allclose(float(full(first)[1].loss), losses[-1], rtol=1e-6)


@pytest.fixture(scope="module")
def grown(tiny, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("sizes") / "run"
    result = run(tiny, workdir, *GROWING)
    assert result.returncode == 0, result.stderr
    return workdir


def test_reports_name_the_size(grown, finished):
    assert [record["image_size"] for record in records(grown)] == [16, 24, 32]
    assert not any("image_size" in record for record in records(finished))
    log = (grown / "log.md").read_text()
    assert "| image sizes | 16 from epoch 1 on, 24 from epoch 2 on, 32 from" in log
    assert "| val top-5 % | image size | learning rate |" in log
    assert re.search(r"^\| \**2\** \|.*\| \**24\** \| \S+ \| \S+ \|$", log, re.M)
    assert "image size" not in (finished / "log.md").read_text()


def test_a_run_that_lacks_its_last_report_gets_it(tiny, grown, tmp_path):
    workdir = shutil.copytree(grown, tmp_path / "run")
    summary = (workdir / "summary.json").read_text()
    unfinished = summary.replace('"complete": true', '"complete": false')
    assert unfinished != summary
    (workdir / "summary.json").write_text(unfinished)
    result = run(tiny, workdir, *GROWING)
    assert result.returncode == 0, result.stderr
    assert '"complete": true' in (workdir / "summary.json").read_text()
    assert_same_run(workdir, grown)


def test_a_run_stopped_within_an_epoch_resumes_to_the_same_bits(tiny, grown, tmp_path):
    workdir = interrupted(tiny, tmp_path / "run", *GROWING)
    copy = shutil.copytree(workdir, tmp_path / "copy")
    changed = (SIZES.replace("32", "28"), *EMA)
    refused = run(tiny, workdir, *changed)
    assert_one_line(refused, r"train.image_sizes was .* --accept-changes")
    result = run(tiny, workdir, *GROWING)
    assert result.returncode == 0, result.stderr
    assert_same_run(workdir, grown)
    result = run(tiny, copy, *changed, "--accept-changes")
    assert result.returncode == 0, result.stderr
    assert records(copy)[-1]["image_size"] == 28
    assert "train.image_sizes was" in (copy / "log.md").read_text()


@pytest.mark.slow
def test_kills_on_each_side_of_a_change_of_size(tiny, grown, tmp_path):
    workdir = tmp_path / "run"
    for moment in ("compiled in", "epoch 1/3", "epoch 2/3"):
        process = start(tiny, workdir, "--config.train.steps_per_call=1", *GROWING)
        wait_for(process, moment)
        process.kill()
        process.communicate(timeout=20)
    result = run(tiny, workdir, *GROWING)
    assert result.returncode == 0, result.stderr
    assert_same_run(workdir, grown)
