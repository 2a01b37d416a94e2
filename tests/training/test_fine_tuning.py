"""Fine-tuning: a new head for other classes, and parts that stay as they are."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from command_line import (
    ROOT,
    assert_one_line,
    assert_same_run,
    final_arrays,
    interrupted,
    run_here,
)
from step_fixtures import (
    BATCH,
    CLASSES,
    PLAIN,
    RATE,
    SGD,
    images_and_labels,
    on_batch,
    scale,
)

from jax_resnet import config
from jax_resnet.model import resnet, weights
from jax_resnet.model.parts import freeze, part_of
from jax_resnet.predictor import Predictor
from jax_resnet.runtime.errors import UserError
from jax_resnet.training.ema import Ema
from jax_resnet.training.loss import Loss
from jax_resnet.training.optimizer import make_optimizer, make_schedule
from jax_resnet.training.sam import Sam
from jax_resnet.training.state import create_train_state
from jax_resnet.training.step import StepOptions, make_train_step

BODY = ("stem", "stage1", "stage2", "stage3")


def step_with_frozen(parts, optimizer, **options):
    """Returns the states before and after a step, the metrics, and the definition."""
    model = resnet.initialize(jax.random.key(0), depth=8, num_classes=CLASSES)
    frozen = freeze(model, parts, depth=8)
    graphdef, state = create_train_state(
        model, optimizer, with_average=True, frozen=frozen
    )
    # Not the statistics of the batch.
    stats = {n: a + 0.5 for n, a in state.batch_stats.items()}
    state = state.with_weights(weights.Weights(state.params, stats))
    options = StepOptions(frozen=frozen, **options)
    step = on_batch(make_train_step(Loss(graphdef, PLAIN), optimizer, options))
    images, labels = (array[:BATCH] for array in images_and_labels())
    with jax.numpy_dtype_promotion("standard"):  # optax's Muon mixes types
        found = step(state, images, labels, jax.random.key(0))
    after, metrics = jax.device_get(found)
    return graphdef, state, after, metrics


def test_every_array_has_a_part():
    model = resnet.initialize(jax.random.key(0), depth=14, num_classes=CLASSES)
    _, params, stats = weights.split(model)
    parts = {name: part_of(name, 14) for name in params | stats}
    assert set(parts.values()) == set(config.PARTS)
    # Two blocks in a stage, whose filters double from stage to stage.
    for name, array in params.items():
        if name.endswith("conv2.conv.kernel"):
            assert array.shape[-1] == 8 * 2 ** int(parts[name].removeprefix("stage"))
    assert parts["head.kernel"] == "head" and parts["stem.norm.mean"] == "stem"


@pytest.mark.slow
def test_a_head_on_a_frozen_body_trains_as_on_the_features_of_evaluation():
    graphdef, before, after, metrics = step_with_frozen(BODY, SGD)
    model = weights.merge(graphdef, before.params, before.batch_stats)
    images, labels = (np.asarray(a[:BATCH]) for a in images_and_labels())
    features = np.asarray(model.features(scale(jnp.asarray(images)))).mean((1, 2))
    kernel, bias = (np.asarray(before.params[f"head.{n}"]) for n in ("kernel", "bias"))
    logits = features @ kernel + bias
    losses = scipy.special.logsumexp(logits, axis=1) - logits[range(BATCH), labels]
    np.testing.assert_allclose(metrics.loss, losses.sum(), rtol=1e-4)
    error = scipy.special.softmax(logits, axis=1) - np.eye(CLASSES)[labels]
    expected = kernel - RATE * features.T @ error / BATCH
    np.testing.assert_allclose(after.params["head.kernel"], expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parts"), [("sgd", ("stem", "stage2")), ("muon", BODY)]
)
def test_frozen_parts_stay_bit_for_bit_and_the_others_move(name, parts):
    optimizer = make_optimizer(name, make_schedule("constant", RATE, 20))
    options = {"accumulation": 2, "sam": Sam(0.5, adaptive=True), "ema": Ema(0.5)}
    _, before, after, _ = step_with_frozen(parts, optimizer, **options)
    found = after.params | after.batch_stats
    for array, value in (before.params | before.batch_stats).items():
        stays = part_of(array, 8) in parts
        assert np.array_equal(found[array], value) == stays, array
    for array, value in before.average.params.items():
        stays = part_of(array, 8) in parts
        assert np.array_equal(after.average.params[array], value) == stays, array
    states = jax.tree_util.tree_leaves_with_path(after.opt_state)
    named = [jax.tree_util.keystr(path) for path, _ in states]
    assert any("'head." in path for path in named)
    assert not any("'stem." in path for path in named)


@pytest.fixture(scope="module")
def tuned(tiny, finished, tmp_path_factory):
    """Arguments of a run on three other classes, the run, and what it printed."""
    folder = tmp_path_factory.mktemp("fine-tuning")
    rng = np.random.default_rng(0)
    arrays = {
        f"{split}_{kind}": array
        for split, n in (("train", 256), ("test", 100))
        for kind, array in (
            ("images", rng.integers(0, 256, (n, 32, 32, 3), np.uint8)),
            ("labels", np.arange(n) % 3),
        )
    }
    np.savez(folder / "own.npz", **arrays, class_names=["ash", "elm", "oak"])
    start = shutil.copytree(finished, folder / "start")
    fields = {
        "data.name": "arrays",
        "data.dir": folder / "own.npz",
        "data.train_split": "train",
        "data.eval_split": "test",
        "train.initial_model": start,
        "optimizer.frozen": "stem, stage1",
        "ema.decay": 0.9,
        "ema.statistics_steps": 1,
        "mesh.devices": 2,
        "mesh.batch_norm": "device",
    }
    arguments = [f"--config.{name}={value}" for name, value in fields.items()]
    result = run_here(tiny, folder / "run", *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    return arguments, folder / "run", result.stdout


@pytest.mark.slow
def test_other_classes_get_a_new_head_and_frozen_parts_stay(finished, tuned):
    _, workdir, output = tuned
    source, model = Predictor.open(finished), Predictor.open(workdir, "latest")
    what = "new head for 3 classes in place of its 10; frozen: stem, stage1"
    assert what in output and what in (workdir / "log.md").read_text()
    assert model.info.class_names == ("ash", "elm", "oak")
    assert model.params["head.kernel"].shape == (64, 3)
    # The frozen parts see images that are normalised as before.
    assert (model.info.mean, model.info.std) == (source.info.mean, source.info.std)
    final = final_arrays(workdir)
    for name, array in (source.params | source.batch_stats).items():
        kind = "batch_stats" if name in source.batch_stats else "params"
        stays = part_of(name, 8) in ("stem", "stage1")
        for group in ("", "average."):
            found = final[f"state.{group}{kind}.{name}"]
            assert np.array_equal(found, array) == stays, (group, name)


@pytest.mark.slow
def test_a_fine_tuned_run_resumes_without_its_initial_model(tiny, tuned, tmp_path):
    arguments, workdir, _ = tuned
    run = interrupted(tiny, tmp_path / "run", *arguments)
    start = tuned[1].parent / "start"
    start.rename(start.with_name("gone"))
    try:
        result = run_here(tiny, run, *arguments)
    finally:
        start.with_name("gone").rename(start)
    assert (result.returncode, result.stderr) == (0, "")
    assert_same_run(run, workdir)


@pytest.mark.slow
def test_a_new_head_cannot_be_frozen(tiny, tuned, tmp_path):
    frozen = "--config.optimizer.frozen=head"
    result = run_here(tiny, tmp_path / "run", *tuned[0], frozen)
    assert_one_line(result, "names the head, .* does not fit the classes")


@pytest.mark.parametrize(
    ("frozen", "model", "message"),
    [
        (
            "stem,stage4",
            "runs/a",
            "no part 'stage4', only stem, stage1, ",
        ),
        ("stage1", "", "name it in train.initial_model"),
        (",".join(config.PARTS), "runs/a", "names all parts"),
    ],
)
def test_what_cannot_be_frozen(frozen, model, message):
    fields = {"optimizer.frozen": frozen, "train.initial_model": model}
    arguments = [f"--config.{name}={value}" for name, value in fields.items()]
    with pytest.raises(UserError, match=message):
        config.load(str(ROOT / "configs/resnet56.py"), arguments)
