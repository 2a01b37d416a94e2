"""Single changes to the training step, each to be measured against the step as it is.

A change replaces one thing in the programs of this package. Changes joined by ``+``
come together, as in ``scan+flat-optimizer``.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from arguments import check_name
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from jax_resnet.training.multi_step import DeviceLoop, device_loop

BASELINE = "baseline"
STEPS_PER_CALL = 40  # where the program fixes it


def scanned(
    step: Callable[[Any], Any],
    count: Any,
    carry: Any,
    *,
    length: int,
    unroll: int = 1,
) -> Any:
    """Applies a step ``length`` times whatever the call asks for."""
    del count

    def body(carry: Any, _: None) -> tuple[Any, None]:
        return step(carry), None

    return lax.scan(body, carry, None, length, unroll=unroll)[0]


def written_out(
    step: Callable[[Any], Any], count: Any, carry: Any, *, length: int
) -> Any:
    """Applies a step ``length`` times, without a loop."""
    del count
    for _ in range(length):
        carry = step(carry)
    return carry


def counted_in_turns(
    step: Callable[[Any], Any], count: Array, carry: Any, *, unroll: int
) -> Any:
    """Applies a step ``count`` times, a multiple of ``unroll``, so many in a turn."""
    several = partial(written_out, step, count, length=unroll)
    return lax.fori_loop(0, count // unroll, lambda _, c: several(c), carry)


def convolve_by_dots(
    x: Float[Array, "n h w i"],
    kernel: Float[Array, "r s i o"],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    *,
    at_once: bool,
    **_: Any,
) -> Float[Array, "n h2 w2 o"]:
    """What ``lax.conv_general_dilated`` computes, as matrix products.

    Args:
        x: images.
        kernel: HWIO.
        strides: rows, columns.
        padding: likewise, before and after.
        at_once: one product of all the pixels under the kernel (im2col), or else a
            product for each of its pixels, and their sum.
    """
    height, width, in_features, features = kernel.shape
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    rows = (padded.shape[1] - height) // strides[0] + 1
    columns = (padded.shape[2] - width) // strides[1] + 1
    seen = [
        padded[
            :,
            row : row + (rows - 1) * strides[0] + 1 : strides[0],
            column : column + (columns - 1) * strides[1] + 1 : strides[1],
        ]
        for row in range(height)
        for column in range(width)
    ]
    weights = kernel.reshape(height * width, in_features, features)
    dot = partial(lax.dot_general, preferred_element_type=jnp.float32)
    contracted = (((3,), (0,)), ((), ()))
    if at_once:
        pixels = jnp.concatenate(seen, axis=-1)
        return dot(pixels, weights.reshape(-1, features), contracted).astype(x.dtype)
    products = [dot(each, w, contracted) for each, w in zip(seen, weights, strict=True)]
    return sum(products[1:], products[0]).astype(x.dtype)


@dataclasses.dataclass(frozen=True)
class Change:
    """What is other than in the step as ``train.py`` runs it.

    Attributes:
        label: for people.
        candidate: to be put together with other changes, if it is faster: the step
            still does the same work, in the same precision.
        dtype: of convolutions and activations; "" for that of the work.
        augment: likewise.
        loop_on_device: None for what suits the device.
        loop: see :class:`jax_resnet.training.multi_step.MultiStep`.
        steps_per_call: 0 for all of a round in one call.
        key: the implementation of random numbers; "" for JAX's default.
        flat_optimizer: one vector of all parameters is updated at once.
        batch_norm: attributes of each BatchNorm.
        convolution: likewise.
    """

    label: str
    candidate: bool = True
    dtype: str = ""
    augment: str = ""
    loop_on_device: bool | None = None
    loop: DeviceLoop = device_loop
    steps_per_call: int = 0
    key: str = ""
    flat_optimizer: bool = False
    batch_norm: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    convolution: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def _on_device(
    label: str, loop: DeviceLoop, steps_per_call: int = STEPS_PER_CALL
) -> Change:
    return Change(label, loop_on_device=True, loop=loop, steps_per_call=steps_per_call)


_UNROLL = (2, 4, 8)
LOOPS = {
    "dispatch": Change("a dispatch per step", loop_on_device=False),
    "scan": _on_device(
        f"lax.scan over {STEPS_PER_CALL}", partial(scanned, length=STEPS_PER_CALL)
    ),
    **{
        f"scan-unroll-{n}": _on_device(
            f"lax.scan over {STEPS_PER_CALL}, unroll={n}",
            partial(scanned, length=STEPS_PER_CALL, unroll=n),
        )
        for n in _UNROLL
    },
    **{
        f"fori-unroll-{n}": _on_device(
            f"lax.fori_loop, {n} steps in a turn", partial(counted_in_turns, unroll=n)
        )
        for n in _UNROLL
    },
    "written-out-8": _on_device(
        "8 steps in a program, no loop", partial(written_out, length=8), 8
    ),
}
PARTS = {
    "float32": Change("in float32", dtype="float32", candidate=False),
    "bfloat16": Change("in bfloat16", dtype="bfloat16", candidate=False),
    "rbg": Change("random bits from rbg", key="rbg"),
    "unsafe-rbg": Change("random bits and keys from rbg", key="unsafe_rbg"),
    "flat-optimizer": Change("one update of a flat vector", flat_optimizer=True),
    # The statistics are in float32 in any case: flax sees to that.
    "bn-float32": Change(
        "BatchNorm: answers in float32", batch_norm={"dtype": jnp.dtype("float32")}
    ),
    "conv-im2col": Change(
        "convolutions as im2col and a dot",
        convolution={"conv_general_dilated": partial(convolve_by_dots, at_once=True)},
    ),
    "conv-dots": Change(
        "convolutions as nine dots",
        convolution={"conv_general_dilated": partial(convolve_by_dots, at_once=False)},
    ),
    "no-augmentation": Change(
        "no augmentation but normalisation", augment="none", candidate=False
    ),
}
CHANGES = {BASELINE: Change("as train.py does"), **LOOPS, **PARTS}


def fields(change: Change) -> tuple[str, ...]:
    """What a change changes."""
    unchanged = Change(change.label, change.candidate)
    names = [field.name for field in dataclasses.fields(Change)]
    return tuple(n for n in names if getattr(change, n) != getattr(unchanged, n))


def parse(name: str) -> Change:
    """The changes whose names are joined by ``+``, together.

    Raises:
        UserError: for an unknown name.
    """
    for part in name.split("+"):
        check_name("change", part, CHANGES)
    changes = [CHANGES[part] for part in name.split("+")]
    changed = {
        field: getattr(change, field) for change in changes for field in fields(change)
    }
    return Change(", ".join(change.label for change in changes), **changed)


def network_changed(network: Any, change: Change) -> Any:
    """The network with the attributes that a change asks for, set in place."""
    for _, module in nnx.iter_modules(network):
        kinds = ((nnx.BatchNorm, change.batch_norm), (nnx.Conv, change.convolution))
        for kind, attributes in kinds:
            if isinstance(module, kind):
                for name, value in attributes.items():
                    setattr(module, name, value)
    return network


def step_key(change: Change, seed: int) -> jax.Array:
    """The key that a run's augmentations follow from."""
    return jax.random.key(seed, impl=change.key or None)
