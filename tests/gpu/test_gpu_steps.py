"""The steps on a GPU are those of the CPU, however they are called and compiled."""

import jax
import numpy as np
import pytest
from card_fixtures import STEPS, Steps, assert_same_training, precision, settings_of

from jax_resnet.distributed.device import compiler_options

pytestmark = pytest.mark.gpu

ONE_BY_ONE = [1] * STEPS
# Tolerances of a loss and of the change by the steps, see ``assert_same_change``.
# Programs and devices round differently: by 1e-6 in a convolution, by 1e-5 with
# Winograd's algorithm. On a CPU, errors of 1e-5 in all convolutions and their gradients
# came to 1e-5 and 5e-3 in these steps. One step too few is a change of 5e-2.
LOSS, CHANGE = 1e-4, 2e-2


@pytest.fixture(scope="module")
def on_card(tiny, card):
    return Steps(settings_of(tiny), card)


@pytest.fixture(scope="module")
def one_by_one(on_card):
    """The state after an epoch and the loss of each of its steps, on the card."""
    return on_card.run(*ONE_BY_ONE)


def test_twenty_steps_are_those_of_the_cpu(tiny, cpu, on_card, one_by_one):
    on_cpu = Steps(settings_of(tiny), cpu)
    pair = jax.tree.leaves(on_card.initial), jax.tree.leaves(on_cpu.initial)
    assert all(np.array_equal(a, b) for a, b in zip(*pair, strict=True))
    found, found_losses = one_by_one
    expected, losses = on_cpu.run(*ONE_BY_ONE)
    np.testing.assert_allclose(found_losses, losses, rtol=0, atol=LOSS)
    assert_same_training(found, expected, on_cpu.initial, CHANGE, "GPU and CPU")
    assert int(found.step) == STEPS


def test_a_call_of_many_steps_is_many_calls(one_by_one, on_card):
    # Where cuDNN adds up a gradient by atomic operations, not even the same call
    # gives the same bits twice: the tolerance is that of another program.
    expected, losses = one_by_one
    for counts in ([STEPS], [7, 1, STEPS - 8]):
        found, means = on_card.run(*counts)
        assert_same_training(found, expected, on_card.initial, CHANGE, str(counts))
        mean = np.average(means, weights=counts)
        np.testing.assert_allclose(mean, losses.mean(), rtol=0, atol=LOSS)


def test_all_compiler_options_give_the_same_steps(
    tiny, card, on_card, one_by_one, monkeypatch
):
    expected, losses = one_by_one
    choices = compiler_options(card.first, alone=True)
    refused = []
    for choice in choices:
        monkeypatch.setattr(
            "jax_resnet.training.multi_step.compiler_options",
            lambda *_, only=choice, **__: [only],
        )
        try:
            found, mean = Steps(settings_of(tiny), card).run(STEPS)
        except jax.errors.JaxRuntimeError as error:
            refused.append(f"{choice.name}: {str(error).splitlines()[0]}")
            continue
        assert_same_training(found, expected, on_card.initial, CHANGE, choice.name)
        np.testing.assert_allclose(mean, [losses.mean()], rtol=0, atol=LOSS)
    assert len(refused) < len(choices), refused
    if refused:
        pytest.skip(f"the others agree, but XLA has no {'; '.join(refused)}")


# On a CPU, factors of products rounded to the 10 bits of TF32, which a GPU takes for
# float32 by default, came to 5e-5 and 2e-2; bfloat16, which rounds activations to 7
# bits as well, to 2e-4 and 4e-2.
@pytest.mark.parametrize(
    ("dtype", "loss", "change"), [("float32", 1e-3, 0.1), ("bfloat16", 1e-2, 0.3)]
)
def test_steps_in_the_precision_of_a_run_follow_float32(
    dtype, loss, change, tiny, card, on_card, one_by_one
):
    expected, losses = one_by_one
    with precision(None):
        steps = Steps(settings_of(tiny, f"--config.model.dtype={dtype}"), card)
        found, found_losses = steps.run(*ONE_BY_ONE)
    np.testing.assert_allclose(found_losses, losses, rtol=0, atol=loss)
    assert_same_training(found, expected, on_card.initial, change, dtype)
