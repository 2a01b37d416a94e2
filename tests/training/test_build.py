"""Building a run from a config: its checks, and how its fields reach the run."""

import jax
import numpy as np
import pytest
from command_line import ROOT

from jax_resnet import config
from jax_resnet.distributed.mesh import DeviceMesh
from jax_resnet.runtime.errors import UserError
from jax_resnet.training.build import RunBuilder, describe_data

KEPT = ROOT / "results" / "resnet20-cpu"


def builder(*overrides, devices=1):
    settings = config.load(
        str(ROOT / "configs" / "smoke.py"),
        ["--config.data.train_split=train[:600]", *overrides],
    )
    described = describe_data(settings)
    chosen = DeviceMesh(tuple(jax.devices()[:devices]))
    settings = config.with_dtype(settings, "float32")
    counts = described.n_train, described.n_eval
    return RunBuilder(settings, chosen, described.info, *counts)


@pytest.mark.parametrize(
    ("override", "devices", "message"),
    [
        ("train.batch_size=700", 1, "only 600 training images"),
        ("train.batch_size=36", 8, "8 devices .* need a multiple of 8"),
        ("train.accumulation=3", 2, "accumulation=3 need a multiple of 6"),
        ("mesh.batch_norm=none", 1, "mesh.batch_norm must be 'global' or 'device'"),
        ("data.placement=disk", 1, "data.placement must be 'auto', 'device' or"),
        ("optimizer.learning_rate_scaling=log", 1, "learning_rate_scaling must be"),
        ("optimizer.schedule=cos", 1, "optimizer.schedule must be one of cosine"),
        ("optimizer.name=adam", 1, "optimizer.name must be 'sgd', 'adamw' or 'muon'"),
        ("optimizer.sam_rho=-1.0", 1, "optimizer.sam_rho must be"),
        ("ema.decay=1.0", 1, r"ema.decay must be in \[0, 1\)"),
        ("mix.cutmix=-1.0", 1, "mix.cutmix must be"),
        ("train.label_smoothing=1.0", 1, "train.label_smoothing must be"),
        ("model.stochastic_depth=1.0", 1, "model.stochastic_depth must be"),
        ("distill.teacher=nowhere", 1, "distill.teacher: no checkpoint in 'nowhere'"),
        (f"distill.teacher={KEPT}", 1, "was trained on cifar100, not on the classes"),
    ],
)
def test_what_cannot_be_built(override, devices, message):
    with pytest.raises(UserError, match=message):
        builder(f"--config.{override}", devices=devices).build(jax.random.key(0))


def test_pairs_are_mixed_on_a_device():
    mixed = ("--config.mix.mixup=0.2", "--config.train.batch_size=36")
    builder(*mixed, devices=2).build(jax.random.key(0))
    with pytest.raises(UserError, match=r"a multiple of 8 \(of pairs, to mix them\)"):
        builder(*mixed, devices=4).build(jax.random.key(0))


def test_the_peak_follows_the_batch():
    small = builder("--config.train.batch_size=50")
    large = builder(
        "--config.train.batch_size=200",
        "--config.optimizer.learning_rate_scaling=linear",
        "--config.optimizer.base_batch_size=50",
    )
    # The same fraction of the run is over at the end of the first of two epochs.
    rates = [b.learning_rates()[0] for b in (small, large)]
    steps = [np.cos(np.pi * (n - 1) / (2 * n)) for n in (12, 3)]
    expected = [0.05 * (1 + steps[0]), 0.2 * (1 + steps[1])]
    np.testing.assert_allclose(rates, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("placement", "available", "streamed"),
    [
        ("auto", 10 * 2**30, False),
        ("auto", 5 * 2**20, True),
        ("device", 5 * 2**20, False),
        ("stream", 10 * 2**30, True),
    ],
)
def test_images_are_streamed_where_they_do_not_fit(
    placement, available, streamed, monkeypatch
):
    monkeypatch.setattr("jax_resnet.training.build.memory_bytes", lambda _: available)
    built = builder(f"--config.data.placement={placement}").build(jax.random.key(0))
    images, *_ = built.pipeline.abstract_train()
    assert (images.shape[0] < 600) == streamed
