"""A model trained on a GPU is the same model on the CPU, and the reverse."""

import jax
import numpy as np
import pytest
from card_fixtures import are_identical, assert_near, precision, settings_of
from jax import export

from jax_resnet import config
from jax_resnet.checkpoint import store
from jax_resnet.formats import stablehlo
from jax_resnet.predict import Predictor
from jax_resnet.training.metrics import RunningMetrics
from jax_resnet.training.resume import resume_point, to_trees

pytestmark = pytest.mark.gpu


def logits_on(devices, run, images):
    with jax.default_device(devices.first):
        return Predictor.open(run.workdir, "latest").logits(images)


@pytest.mark.parametrize(("made", "restored"), [("card", "cpu"), ("cpu", "card")])
def test_a_checkpoint_restores_bit_for_bit_on_the_other_device(
    made, restored, tiny, on_cpu, request
):
    run = request.getfixturevalue(f"made_on_{made}")
    devices = request.getfixturevalue(restored)
    latest = store.select(run.workdir, "latest")
    point = resume_point(run.workdir, config.to_json(settings_of(tiny)))
    found = point.restore(on_cpu.initial, RunningMetrics.zeros())
    state, metrics = devices.place(found)
    assert all(leaf.devices() == {devices.first} for leaf in jax.tree.leaves(state))
    assert int(state.step) == latest.step == run.last["step"]
    model, training = to_trees(*jax.device_get((state, metrics)), epoch_ends=True)
    assert are_identical(model, latest.arrays("model"))
    assert are_identical(training, latest.arrays("training"))


# In float32 of 24 bits; and as a GPU computes it by default, with factors of 10 bits.
@pytest.mark.parametrize(("name", "tolerance"), [("highest", 1e-3), (None, 1e-1)])
@pytest.mark.parametrize("made", ["card", "cpu"])
def test_logits_are_those_of_the_cpu(made, name, tolerance, card, cpu, images, request):
    run = request.getfixturevalue(f"made_on_{made}")
    expected = logits_on(cpu, run, images)
    with precision(name):
        found = logits_on(card, run, images)
    assert np.ptp(expected) > 0.5
    assert_near(found, expected, tolerance, f"logits, precision {name}")


def test_an_exported_model_runs_on_the_card(card, cpu, made_on_card, images, tmp_path):
    path = tmp_path / "model.stablehlo"
    with jax.default_device(card.first):
        predictor = Predictor.open(made_on_card.workdir, "latest")
        stablehlo.write(predictor, path)
        exported = export.deserialize(bytearray(path.read_bytes()))
        # It says itself how precise it is.
        with precision(None):
            found = exported.call(images)
        assert found.devices() == {card.first}
        assert_near(found, predictor.predict(images), 1e-4, "probabilities")
    with jax.default_device(cpu.first):
        elsewhere = exported.call(images)
    assert elsewhere.devices() == {cpu.first}
    assert_near(found, elsewhere, 1e-4, "probabilities on both devices")
