"""The devices that train together, and how arrays lie on them.

Data parallelism: each device has the whole state and a part of each batch. On a single
device this module leaves functions and arrays as they are, so that no other module
needs to treat that case apart.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jax_resnet.distributed import device
from jax_resnet.runtime.errors import UserError

AXIS = "batch"  # the only axis of the mesh
REPLICATED = PartitionSpec()  # each device has the whole array


def split_along(axis: int) -> PartitionSpec:
    """Returns the layout of an array that is cut along an axis, a part per device."""
    return PartitionSpec(*[None] * axis, AXIS)


@dataclass(frozen=True)
class DeviceMesh:
    """The devices that train together, in all processes."""

    # at least one, all of a kind, in the same order in each process
    devices: tuple[jax.Device, ...]

    @classmethod
    def select(cls, kind: str, count: int = 0) -> "DeviceMesh":
        """Selects the first devices of a kind; call it before anything is computed.

        The kind is that of :func:`jax_resnet.distributed.device.find`; a count of 0
        takes all. Raises UserError if there are too few, or a process would have none.
        """
        platform = device.find(kind).platform
        found = tuple(d for d in jax.devices() if d.platform == platform)
        chosen = found[: count or None]
        used, processes = ({d.process_index for d in part} for part in (chosen, found))
        if count > len(found) or used != processes:
            raise UserError(
                f"mesh.devices is {count}, and JAX finds {len(found)}, at least one of "
                "which each process needs: use 0 for all"
            )
        return cls(chosen)

    @property
    def count(self) -> int:
        """Number of devices in all processes."""
        return len(self.devices)

    @property
    def first(self) -> jax.Device:
        """The first device of this process."""
        local = (d for d in self.devices if d.process_index == jax.process_index())
        return next(local)

    @property
    def axis_name(self) -> str | None:
        """The axis for collectives; None on one device, which needs none."""
        return AXIS if self.count > 1 else None

    def describe(self) -> str:
        """Returns the devices' name for people."""
        name = device.describe(self.first)
        processes = len({d.process_index for d in self.devices})
        name = f"{self.count} x {name}" if self.count > 1 else name
        return f"{name}, {processes} processes" if processes > 1 else name

    def sharding(self, layout: PartitionSpec) -> jax.sharding.Sharding:
        """Returns the sharding of arrays with this layout."""
        if self.count == 1:
            return jax.sharding.SingleDeviceSharding(self.first)
        return NamedSharding(self._mesh(), layout)

    def place(self, tree: Any, layout: PartitionSpec = REPLICATED) -> Any:
        """Puts the arrays of a pytree, whole in each process, on the devices."""
        sharding = self.sharding(layout)
        return jax.tree.map(lambda leaf: _place(leaf, sharding), tree)

    def place_rows(
        self, rows: np.ndarray, arrays: Sequence[np.ndarray]
    ) -> tuple[jax.Array, ...]:
        """Puts ``array[rows]`` of each array on the devices, cut along its rows.

        A process reads only the rows of its own devices.
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
        """Maps a function over the devices, each with its parts of the arguments.

        The function may use collectives along :attr:`axis_name`, and must return the
        same on each device. There is a layout for each argument.
        """
        if self.count == 1:
            return function
        return jax.shard_map(
            function,
            mesh=self._mesh(),
            in_specs=tuple(layouts),
            out_specs=REPLICATED,
            check_vma=False,  # JAX cannot infer that the results are the same
        )

    def _mesh(self) -> Mesh:
        return Mesh(np.array(self.devices), (AXIS,))


def _place(leaf: Any, sharding: jax.sharding.Sharding) -> jax.Array:
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _place(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    if sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    array = np.asarray(leaf)
    return jax.make_array_from_callback(array.shape, sharding, lambda i: array[i])
