"""Building a run from a config: its checks, and how its fields reach the run."""

import jax
import numpy as np
import pytest
from command_line import ROOT, unchecked

from jax_resnet import config
from jax_resnet.distributed.mesh import DeviceMesh
from jax_resnet.runtime.errors import UserError
from jax_resnet.training import build
from jax_resnet.training.build import RunBuilder, describe_data
from jax_resnet.training.metrics import RunningMetrics

KEPT = ROOT / "results" / "resnet20-cpu"


def builder(*overrides, devices=1):
    fields = ("data.train_split=train[:600]", *overrides)
    settings = config.load(
        str(ROOT / "configs" / "smoke.py"), [f"--config.{field}" for field in fields]
    )
    chosen = DeviceMesh(tuple(jax.devices()[:devices]))
    settings = config.with_dtype(settings, "float32")
    return RunBuilder(settings, chosen, describe_data(settings))


@pytest.mark.parametrize(
    ("overrides", "devices", "message"),
    [
        (["train.batch_size=700"], 1, "only 600 training images"),
        (["train.batch_size=36"], 8, "8 devices .* need a multiple of 8"),
        (["train.accumulation=3"], 2, "accumulation=3 need a multiple of 6"),
        (["mix.mixup=0.2", "train.batch_size=36"], 4, r"of 8 \(of pairs, to mix them"),
        (["train.image_sizes=((0, 36),)"], 1, "must fit into square images"),
        (["distill.teacher=nowhere"], 1, "distill.teacher: no checkpoint in 'nowhere'"),
        ([f"distill.teacher={KEPT}"], 1, "was trained on cifar100, not on the classes"),
    ],
)
def test_what_cannot_be_built(overrides, devices, message):
    with pytest.raises(UserError, match=message):
        builder(*overrides, devices=devices).build(jax.random.key(0))


def test_learning_rates_are_those_of_the_last_steps_and_follow_the_batch():
    small = builder("train.batch_size=50")
    large = builder(
        "train.batch_size=200",
        "optimizer.learning_rate_scaling=linear",
        "optimizer.base_batch_size=50",
    )
    # The same fraction of the run is over at the end of the first of two epochs.
    rates = [b.learning_rates()[0] for b in (small, large)]
    steps = [np.cos(np.pi * (n - 1) / (2 * n)) for n in (12, 3)]
    expected = [0.05 * (1 + steps[0]), 0.2 * (1 + steps[1])]
    np.testing.assert_allclose(rates, expected, rtol=1e-4)


@pytest.mark.slow
def test_images_are_streamed_where_they_do_not_fit(monkeypatch):
    for placement, memory, streamed in [
        ("auto", 10 * 2**30, False),
        ("auto", 5 * 2**20, True),
        ("device", 5 * 2**20, False),
        ("stream", 10 * 2**30, True),
    ]:
        monkeypatch.setattr(build, "memory_bytes", lambda _, n=memory: n)
        steps, _ = builder(f"data.placement={placement}").build(jax.random.key(0))
        images, *_ = steps.pipeline.abstract_train()
        assert (images.shape[0] < 600) == streamed


@pytest.mark.slow
def test_each_epoch_trains_at_its_image_size():
    sizes = builder("train.image_sizes=((0, 8), (1, 24))")
    steps, state = sizes.build(jax.random.key(0))
    carry = steps.pipeline.devices.place((state, RunningMetrics.zeros()))
    for epoch, side in ((0, 8), (1, 24)):
        with unchecked():
            step = steps.train(epoch)
            text = step.lower(carry, *steps.pipeline.abstract_train()).as_text()
        # The outputs of the first convolution.
        assert f"tensor<64x{side}x{side}x16xf32>" in text
        assert "tensor<64x32x32x16xf32>" not in text
