"""What a checkpoint says beside its arrays, checked before anything trusts it."""

import json
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from jax_resnet import config
from jax_resnet.checkpoint.history import Clock, EpochRecord, RunInfo
from jax_resnet.data import DatasetInfo
from jax_resnet.fields import ADDED, check
from jax_resnet.runtime.errors import UserError


class Architecture(TypedDict):
    """The arguments of :class:`~jax_resnet.model.resnet.ResNet`."""

    depth: int
    width: int
    shortcut: Literal["projection", "pad"]
    dtype: Literal["float32", "bfloat16"]
    num_classes: int
    in_channels: int


@dataclass(frozen=True)
class RunMetadata:
    """All that a run knows of itself, for resuming, evaluating and serving.

    Attributes:
        model: what to build before the arrays fit.
        dataset: what it was trained on, without the images.
        config: the whole config, as JSON.
        run: what ran on what.
        clock: the seconds spent.
        history: every epoch done.
        compile_seconds: spent in compilation, in all starts.
    """

    model: Architecture
    dataset: DatasetInfo
    config: dict[str, Any]
    run: RunInfo
    clock: Clock
    history: list[EpochRecord]
    compile_seconds: float

    def epoch_at(self, step: int) -> EpochRecord | None:
        """The epoch that ended with a step; None if none did."""
        return next((r for r in self.history if r["step"] == step), None)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "RunMetadata":
        """Reads what ``dataclasses.asdict`` gave, also by an older version.

        Raises:
            UserError: if ``value`` is not the metadata of a run.
        """
        try:
            metadata = _ADAPTER.validate_json(json.dumps(value), strict=True)
            fields = {**ADDED, **config.flatten(metadata.config)}
            check(
                {n: tuple(v) if isinstance(v, list) else v for n, v in fields.items()}
            )
            metadata._check_consistency()
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise _refused(f"{place}: {first['msg']}") from error
        except (ValueError, RecursionError) as error:  # a UserError is one
            raise _refused(str(error)) from error
        return metadata

    def _check_consistency(self) -> None:
        model, dataset = self.model, self.dataset
        settings = self.config["model"]
        if any(settings.get(n, v) != v for n, v in model.items()):
            raise ValueError("the model is not the config's")
        shape = model["num_classes"], model["in_channels"]
        if shape != (dataset.num_classes, dataset.image_shape[-1]):
            raise ValueError("the model is not the data set's")
        if not all(0 < size <= _LARGEST_IMAGE for size in dataset.image_shape):
            raise ValueError(f"images of shape {dataset.image_shape}")
        if not len(dataset.mean) == len(dataset.std) == dataset.image_shape[-1]:
            raise ValueError("there is not one mean and deviation for each channel")
        # Of values in [0, 1]; what they divide by is at least one grey level.
        if not all(0 <= mean <= 1 for mean in dataset.mean):
            raise ValueError(f"channels with means {dataset.mean}")
        if not all(1 / 255 <= std <= 1 for std in dataset.std):
            raise ValueError(f"channels with deviations {dataset.std}")
        superclasses = range(len(dataset.superclass_names))
        if len(dataset.superclass_of) not in (0, dataset.num_classes) or not all(
            superclass in superclasses for superclass in dataset.superclass_of
        ):
            raise ValueError("there is not one superclass for each class")
        if [r["epoch"] for r in self.history] != [*range(1, len(self.history) + 1)]:
            raise ValueError("the history does not count the epochs 1, 2, 3...")


_ADAPTER = TypeAdapter(RunMetadata)
_LARGEST_IMAGE = 4096  # pixels; far above what anyone trains on


def _refused(reason: str) -> UserError:
    # It may quote names and values from a file that anybody wrote.
    line = textwrap.shorten(reason, 300)
    return UserError(
        f"the checkpoint's metadata is not that of a run ({line}): use another "
        "step, or the version of jax_resnet that wrote it"
    )
