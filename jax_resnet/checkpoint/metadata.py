"""The metadata of a run, which every checkpoint of it has beside the arrays."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from jax_resnet.checkpoint.history import Clock, EpochRecord, RunInfo, best_epoch
from jax_resnet.data import DatasetInfo
from jax_resnet.runtime.errors import UserError


class Architecture(TypedDict):
    """The arguments of :class:`~jax_resnet.model.resnet.ResNet`."""

    depth: Annotated[int, Field(ge=8, le=2000)]  # a forged size shall not fill memory
    width: Annotated[int, Field(ge=1, le=100)]
    shortcut: Literal["projection", "pad"]
    dtype: Literal["float32", "bfloat16"]
    num_classes: int
    in_channels: int


@dataclass(frozen=True)
class RunMetadata:
    """A run without its arrays: enough to resume, evaluate and serve it."""

    model: Architecture
    dataset: DatasetInfo
    config: dict[str, Any]  # the whole config, as JSON
    run: RunInfo  # what was run, and where
    clock: Clock  # seconds spent so far
    history: list[EpochRecord]  # the record of each epoch done
    compile_seconds: float  # seconds spent in compilation, in all starts together

    def epoch_at(self, step: int) -> EpochRecord | None:
        """Returns the record of the epoch that ended with a step; None if none did."""
        return next((r for r in self.history if r["step"] == step), None)

    def was_selected(self, epoch: EpochRecord) -> bool:
        """True for the best epoch, unless it is the last one, which nobody selects."""
        return epoch["epoch"] != self.run.epochs and epoch == best_epoch(self.history)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "RunMetadata":
        """Reads what ``dataclasses.asdict`` returned, in this version or an older one.

        Raises UserError if ``value`` is not the metadata of a run.
        """
        try:
            return _ADAPTER.validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise UserError(
                f"the checkpoint's metadata is not that of a run ({place}: "
                f"{first['msg']}): use another step, or the version of jax_resnet "
                "that wrote it"
            ) from error


_ADAPTER = TypeAdapter(RunMetadata)
