"""The devices that compute a run together, and how its arrays lie on them.

Data parallelism: each device has the whole state and a part of each batch. One device
is no special case to anything but this module, which then leaves functions and arrays
as they are.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jax_resnet.distributed import device
from jax_resnet.runtime.errors import UserError

AXIS = "batch"  # the only axis of the mesh


def split_along(axis: int) -> PartitionSpec:
    """The layout of an array that is cut along an axis, a part for each device."""
    return PartitionSpec(*[None] * axis, AXIS)


REPLICATED = PartitionSpec()  # the layout of an array that each device has whole


@dataclass(frozen=True)
class DeviceMesh:
    """The devices of a run, also those of its other processes.

    Attributes:
        all: at least one, all of a kind, in the same order in each process.
    """

    all: tuple[jax.Device, ...]

    @classmethod
    def select(cls, kind: str, count: int = 0) -> "DeviceMesh":
        """The first devices of a kind; call before anything is computed.

        Args:
            kind: as :func:`jax_resnet.distributed.device.select` takes it.
            count: how many; 0 takes all.

        Raises:
            UserError: if there are not so many.
        """
        platform = device.select(kind).platform
        found = tuple(d for d in jax.devices() if d.platform == platform)
        if count > len(found):
            raise UserError(
                f"mesh.devices is {count}, and JAX finds {len(found)}: use at most so "
                "many, or 0 for all"
            )
        chosen = cls(found[: count or None])
        if missing := {d.process_index for d in found} - {
            d.process_index for d in chosen.all
        }:
            raise UserError(
                f"mesh.devices is {count}, which leaves none to process "
                f"{min(missing)}: use 0 for all {len(found)}"
            )
        return chosen

    @property
    def count(self) -> int:
        """How many there are, in all processes."""
        return len(self.all)

    @property
    def first(self) -> jax.Device:
        """The first device of this process."""
        return next(d for d in self.all if d.process_index == jax.process_index())

    @property
    def axis_name(self) -> str | None:
        """What collectives go along; None on one device, which needs none."""
        return AXIS if self.count > 1 else None

    def describe(self) -> str:
        """The devices as people call them."""
        name = device.describe(self.first)
        processes = Counter(d.process_index for d in self.all)
        if self.count > 1:
            name = f"{self.count} x {name}"
        return f"{name}, {len(processes)} processes" if len(processes) > 1 else name

    def sharding(self, layout: PartitionSpec) -> jax.sharding.Sharding:
        """A layout on these devices."""
        if self.count == 1:
            return jax.sharding.SingleDeviceSharding(self.first)
        return NamedSharding(Mesh(np.array(self.all), (AXIS,)), layout)

    def place(self, tree: Any, layout: PartitionSpec = REPLICATED) -> Any:
        """Puts the arrays of a tree on the devices; each process has them all."""
        sharding = self.sharding(layout)
        return jax.tree.map(lambda leaf: _place(leaf, sharding), tree)

    def place_rows(
        self, rows: np.ndarray, arrays: Sequence[np.ndarray]
    ) -> tuple[jax.Array, ...]:
        """Puts ``array[rows]`` of each array on the devices, cut along its rows.

        A process reads no more rows than its own devices take.
        """
        sharding = self.sharding(split_along(0))

        def place(array: np.ndarray) -> jax.Array:
            shape = (len(rows), *array.shape[1:])
            return jax.make_array_from_callback(
                shape,
                sharding,
                lambda index: array[rows[index[0]]],  # type: ignore[index]
            )

        return tuple(map(place, arrays))

    def parallel(
        self, function: Callable[..., Any], layouts: Sequence[PartitionSpec]
    ) -> Callable[..., Any]:
        """The function as each device runs it on its parts of the arguments.

        Args:
            function: may use collectives along :attr:`axis_name`; what it returns is
                the same on each device.
            layouts: of its arguments.
        """
        if self.count == 1:
            return function
        mesh = Mesh(np.array(self.all), (AXIS,))
        # What is the same on all devices is known to us, not to JAX's types.
        return jax.shard_map(
            function,
            mesh=mesh,
            in_specs=tuple(layouts),
            out_specs=REPLICATED,
            check_vma=False,
        )


def _place(leaf: Any, sharding: jax.sharding.Sharding) -> jax.Array:
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _place(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    if sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    array = np.asarray(leaf)
    return jax.make_array_from_callback(array.shape, sharding, lambda i: array[i])
