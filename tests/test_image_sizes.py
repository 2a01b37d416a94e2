"""Images that are smaller in early epochs: their sizes, their pixels, their runs."""

import re

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
from parallel_fixtures import STEPS_PER_EPOCH, Steps, batch_of
from PIL import Image

from jax_resnet.errors import UserError
from jax_resnet.image_sizes import ImageSizes, resize
from jax_resnet.mixing import make_mix
from jax_resnet.objective import Objective

STAGES = ((0, 4), (2, 8))
GROWING = "--config.train.image_sizes=((0, 16), (1, 24), (2, 32))"


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


def seen(objective, step):
    images, labels, keys = batch_of(step)
    return jax.jit(objective.see)(images, labels, keys, step // STEPS_PER_EPOCH)


@pytest.mark.parametrize("options", [{}, {"mix": True}])
def test_images_are_resized_after_all_else(options):
    plain = Steps(1).objective
    mix = make_mix(mixup=0.2, cutmix=1.0, probability=1.0) if options else None
    full = Objective(plain.graphdef, plain.augment, mix)
    small = Objective(plain.graphdef, plain.augment, mix, image_size=4)
    expected, found = seen(full, 3), seen(small, 3)
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


def test_each_epoch_has_its_size(one):
    last = 2 * STEPS_PER_EPOCH - 1  # the last step at the small size
    _, losses = after(one, last + 2)
    at, _ = after(one, last)
    for step in (last, last + 1):
        small = Steps(1, image_sizes=((0, 4),), ema_decay=0.5, learning_rate=1e-3)
        other = small if step == last else Steps(1, ema_decay=0.5, learning_rate=1e-3)
        found, sums = other(at)
        np.testing.assert_allclose(float(sums.loss), losses[step], rtol=1e-6)
        at = found


@pytest.mark.parametrize("streamed", [False, True])
def test_devices_and_placement_change_nothing(streamed, one):
    count = 2 * STEPS_PER_EPOCH + 2
    expected, losses = after(one, count)
    others = Steps(
        4, image_sizes=STAGES, ema_decay=0.5, learning_rate=1e-3, streamed=streamed
    )
    found, other_losses = after(others, count)
    np.testing.assert_allclose(other_losses, losses, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def grown(tiny, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("sizes") / "run"
    result = run(tiny, workdir, GROWING)
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


def test_a_run_stopped_within_an_epoch_resumes_to_the_same_bits(tiny, grown, tmp_path):
    workdir = interrupted(tiny, tmp_path / "run", GROWING)
    changed = GROWING.replace("24", "28")
    assert_one_line(
        run(tiny, workdir, changed), r"train.image_sizes was .* --accept-changes"
    )
    result = run(tiny, workdir, GROWING)
    assert result.returncode == 0, result.stderr
    assert_same_run(workdir, grown)


@pytest.mark.slow
@pytest.mark.parametrize("epoch", [1, 2])
def test_kills_on_each_side_of_a_change_of_size(epoch, tiny, grown, tmp_path):
    workdir = tmp_path / "run"
    before = "compiled in" if epoch == 1 else f"epoch {epoch - 1}/3"
    for moment in (before, f"epoch {epoch}/3"):
        process = start(tiny, workdir, "--config.train.steps_per_call=1", GROWING)
        wait_for(process, moment)
        process.kill()
        process.communicate(timeout=20)
    result = run(tiny, workdir, GROWING)
    assert result.returncode == 0, result.stderr
    assert_same_run(workdir, grown)


def test_a_run_goes_on_with_other_sizes_if_it_says_so(tiny, tmp_path):
    workdir = interrupted(tiny, tmp_path / "run", GROWING)
    other = GROWING.replace("24", "28")
    result = run(tiny, workdir, other, "--accept-changes")
    assert result.returncode == 0, result.stderr
    assert records(workdir)[-1]["image_size"] == 32
    assert "train.image_sizes was" in (workdir / "log.md").read_text()
