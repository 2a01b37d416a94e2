"""A step that is applied many times a call, and compiled with options that may fail."""

from unittest.mock import Mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_resnet.distributed.device import CompilerOptions, compiler_options
from jax_resnet.distributed.mesh import REPLICATED, DeviceMesh
from jax_resnet.training import multi_step
from jax_resnet.training.multi_step import MultiStep, device_loop

ONE = DeviceMesh((jax.devices()[0],))
UNKNOWN = CompilerOptions("options of another XLA", {"xla_unknown_option": "1"})
DEFAULT = CompilerOptions("XLA's default", {})
GPU = Mock(spec=jax.Device, platform="gpu")


@pytest.fixture
def choices(monkeypatch):
    def choose(*options):
        monkeypatch.setattr(multi_step, "compiler_options", lambda *_, **__: [*options])

    return choose


def add(carry, number):
    return carry + number


@pytest.mark.parametrize("loop", [None, device_loop])
def test_the_carry_is_donated(loop):
    step = MultiStep(add, ONE, [REPLICATED], loop)
    carry = jax.device_put(np.arange(1000.0))
    np.testing.assert_array_equal(step(carry, 2, jnp.float32(1)), np.arange(1000) + 2)
    assert carry.is_deleted()


def test_options_that_do_not_compile_are_reported_and_left_out(choices, caplog):
    choices(UNKNOWN, DEFAULT)
    step = MultiStep(add, ONE, [REPLICATED], device_loop)
    step.compile(jnp.int32(1), jnp.int32(2))
    assert step(jnp.int32(1), 5, jnp.int32(2)) == 11
    (message,) = caplog.messages
    assert message.startswith("warning: no options of another XLA here (")
    assert message.endswith("; going on with XLA's default") and "\n" not in message


def test_a_program_that_fails_when_it_runs_loses_nothing(choices, caplog):
    choices(CompilerOptions("graphs that cannot be captured", {}), DEFAULT)
    calls = []

    def fail_once(number):
        calls.append(number)
        if len(calls) == 1:
            raise RuntimeError("no graph")
        return number

    def step(carry, number):
        shape = jax.ShapeDtypeStruct((), jnp.int32)
        return carry + jax.pure_callback(fail_once, shape, number)

    step = MultiStep(step, ONE, [REPLICATED], device_loop)
    step.compile(jnp.int32(1), jnp.int32(2))
    assert not caplog.messages
    for _ in range(2):
        assert step(jnp.int32(1), 5, jnp.int32(2)) == 11
    warnings = [text for text in caplog.messages if text.startswith("warning: ")]
    assert len(warnings) == 1 and "no graphs that cannot be captured" in warnings[0]


def test_a_gpu_gets_graphs_unless_the_user_decides(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    names = [options.name for options in compiler_options(GPU, alone=True)]
    assert names == ["CUDA graph for a call", "CUDA graph for a step", "XLA's default"]
    assert [o.values for o in compiler_options(GPU, alone=False)] == [{}]
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_enable_command_buffer=")
    assert [o.values for o in compiler_options(GPU, alone=True)] == [{}]
