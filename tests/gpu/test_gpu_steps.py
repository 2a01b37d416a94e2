"""The steps on a GPU are those of the CPU, however they are called and compiled."""

import dataclasses

import jax
import pytest
from card_fixtures import (
    STEPS,
    Steps,
    are_identical,
    assert_near,
    assert_same_training,
    precision,
    settings_of,
)

from jax_resnet.distributed.device import compiler_options

pytestmark = pytest.mark.gpu

ONE_BY_ONE = [1] * STEPS
# Tolerances of a loss and of the change by the steps, see ``assert_same_change``.
# Programs and devices round differently: by 1e-6 in a convolution, by 1e-5 with
# Winograd's algorithm. On a CPU, errors of 1e-5 in all convolutions and their gradients
# came to 1e-5 and 5e-3 in these steps. One step too few is a change of 5e-2.
LOSS, CHANGE = 1e-4, 2e-2


@pytest.fixture(scope="module")
def one_by_one(on_card):
    """The state after an epoch and the loss of each of its steps, on the card."""
    return on_card.run(*ONE_BY_ONE)


def test_twenty_steps_are_those_of_the_cpu(one_by_one, on_card, on_cpu):
    assert are_identical(on_card.initial, on_cpu.initial)
    found, found_losses = one_by_one
    state, losses = on_cpu.run(*ONE_BY_ONE)
    assert_near(found_losses, losses, LOSS, "losses")
    assert_same_training(found, state, on_cpu.initial, CHANGE, "GPU and CPU")
    assert int(found.step) == STEPS


def test_a_call_of_many_steps_is_many_calls(one_by_one, on_card):
    # Where cuDNN adds up a gradient by atomic operations, not even the same call
    # gives the same bits twice: the tolerance is that of another program.
    at_once, mean = on_card.run(STEPS)
    again, _ = on_card.run(STEPS)
    mixed, _ = on_card.run(7, 1, STEPS - 8)
    print(f"the same call twice, bit for bit: {are_identical(at_once, again)}")
    print(f"many calls, bit for bit: {are_identical(at_once, one_by_one[0])}")
    before = on_card.initial
    assert_same_training(at_once, one_by_one[0], before, CHANGE, "one call and many")
    assert_same_training(at_once, mixed, before, CHANGE, "one call and three")
    assert_near(mean, one_by_one[1].mean(), LOSS, "the mean loss")


def test_calls_are_the_same_bit_for_bit_in_a_deterministic_program(
    tiny, card, on_card, monkeypatch
):
    def deterministic(device, *, alone):
        return [
            dataclasses.replace(
                choice, values={**choice.values, "xla_gpu_deterministic_ops": "True"}
            )
            for choice in compiler_options(device, alone=alone)
        ]

    use(deterministic, monkeypatch)
    try:
        steps = Steps(settings_of(tiny), card)
        at_once, _ = steps.run(STEPS)
    except jax.errors.JaxRuntimeError as error:
        pytest.skip(f"XLA has no deterministic program here: {first_line(error)}")
    assert are_identical(steps.run(STEPS)[0], at_once)
    assert are_identical(steps.run(*ONE_BY_ONE)[0], at_once)
    assert are_identical(steps.run(7, 1, STEPS - 8)[0], at_once)
    others, _ = on_card.run(STEPS)
    assert_same_training(at_once, others, steps.initial, CHANGE, "deterministic")


def test_all_compiler_options_give_the_same_steps(
    tiny, card, on_card, one_by_one, monkeypatch
):
    choices = compiler_options(card.first, alone=True)
    refused = []
    for choice in choices:
        use(lambda *_, only=choice, **__: [only], monkeypatch)
        try:
            state, losses = Steps(settings_of(tiny), card).run(STEPS)
        except jax.errors.JaxRuntimeError as error:
            refused.append(f"{choice.name}: {first_line(error)}")
            continue
        before, expected = on_card.initial, one_by_one[0]
        assert_same_training(state, expected, before, CHANGE, choice.name)
        assert_near(losses, one_by_one[1].mean(), LOSS, f"{choice.name}, mean loss")
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
    with precision(None):
        steps = Steps(settings_of(tiny, f"--config.model.dtype={dtype}"), card)
        state, losses = steps.run(*ONE_BY_ONE)
    assert_near(losses, one_by_one[1], loss, f"losses in {dtype}")
    before, expected = on_card.initial, one_by_one[0]
    assert_same_training(state, expected, before, change, dtype)


def use(options, monkeypatch):
    """Has the steps compiled with these options in place of the product's."""
    monkeypatch.setattr("jax_resnet.training.multi_step.compiler_options", options)


def first_line(error):
    return " ".join(str(error).split())[:200]
