"""A model trained on a GPU is the same model on the CPU, and the reverse."""

import shutil

import jax
import numpy as np
import pytest
from card_fixtures import assert_same_result, precision, settings_of, train_on
from jax import export

from jax_resnet.checkpoint import store
from jax_resnet.formats import stablehlo
from jax_resnet.predictor import Predictor

pytestmark = pytest.mark.gpu


def test_a_run_begun_on_one_device_ends_on_the_other(
    tiny, card, cpu, made_on_card, tmp_path
):
    for name, first, second in (("a", card, cpu), ("b", cpu, card)):
        workdir = train_on(first, settings_of(tiny), tmp_path / name)
        shutil.rmtree(store.select(workdir, "latest").path)  # its second epoch
        train_on(second, settings_of(tiny), workdir)
        assert_same_result(workdir, made_on_card)


# In float32 of 24 bits; and as a GPU computes it by default, with factors of 10 bits.
@pytest.mark.parametrize(("name", "tolerance"), [("highest", 1e-3), (None, 1e-1)])
def test_logits_are_those_of_the_cpu(name, tolerance, card, cpu, made_on_card, images):
    with jax.default_device(cpu.first):
        expected = Predictor.open(made_on_card).logits(images)
    with jax.default_device(card.first), precision(name):
        found = Predictor.open(made_on_card).logits(images)
    assert np.ptp(expected) > 0.5
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def test_an_exported_model_runs_on_both(card, cpu, made_on_card, images, tmp_path):
    path = tmp_path / "model.stablehlo"
    with jax.default_device(card.first):
        predictor = Predictor.open(made_on_card)
        stablehlo.write(predictor, path)
        expected = predictor.predict(images)
    exported = export.deserialize(bytearray(path.read_bytes()))
    for devices in (card, cpu):
        # The model says itself how precise it is.
        with jax.default_device(devices.first), precision(None):
            found = exported.call(images)
        assert found.devices() == {devices.first}
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
