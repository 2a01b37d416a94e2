"""What a checkpoint says beside its arrays, checked before anything trusts it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from jax_resnet import config
from jax_resnet.data import DatasetInfo
from jax_resnet.errors import UserError
from jax_resnet.history import Clock, EpochRecord, RunInfo


class Architecture(TypedDict):
    """The arguments of :class:`~jax_resnet.model.ResNet`."""

    depth: int
    width: int
    shortcut: str
    dtype: str
    num_classes: int
    in_channels: int


@dataclass(frozen=True)
class RunRecord:
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

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> "RunRecord":
        """Reads what ``dataclasses.asdict`` gave, also by an older version.

        Raises:
            UserError: if it is not such a record; whoever wrote it, it can then
                neither be resumed nor evaluated.
        """
        try:
            record = _ADAPTER.validate_json(json.dumps(metadata), strict=True)
            fields = {**config.ADDED, **config.flatten(record.config)}
            config.check(
                {n: tuple(v) if isinstance(v, list) else v for n, v in fields.items()}
            )
            record._check_consistency()
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise _refused(f"{place}: {first['msg']}") from error
        except ValueError as error:  # a UserError is one
            raise _refused(str(error)) from error
        return record

    def _check_consistency(self) -> None:
        model, dataset = self.model, self.dataset
        settings = {name: model[name] for name in self.config["model"]}  # type: ignore[literal-required]
        if settings != self.config["model"]:
            raise ValueError("the model is not the config's")
        shape = model["num_classes"], model["in_channels"]
        if shape != (dataset.num_classes, dataset.image_shape[-1]):
            raise ValueError("the model is not the data set's")
        if not len(dataset.mean) == len(dataset.std) == dataset.image_shape[-1]:
            raise ValueError("there is not one mean and deviation for each channel")
        if [r["epoch"] for r in self.history] != [*range(1, len(self.history) + 1)]:
            raise ValueError("the history does not count the epochs 1, 2, 3...")


_ADAPTER = TypeAdapter(RunRecord)


def _refused(reason: str) -> UserError:
    return UserError(
        f"the checkpoint's metadata is not that of a run ({reason}): use another "
        "step, or the version of jax_resnet that wrote it"
    )
