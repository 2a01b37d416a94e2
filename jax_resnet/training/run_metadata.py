"""The metadata of a run, when it starts and when it resumes."""

import dataclasses
import datetime
import platform
from collections.abc import Sequence
from typing import Any

from jax_resnet import config, data
from jax_resnet.checkpoint.history import Clock, RunInfo, installed_versions
from jax_resnet.checkpoint.metadata import RunMetadata
from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.text import printable
from jax_resnet.training import image_sizes
from jax_resnet.training.build import RunBuilder
from jax_resnet.training.resume import ResumePoint
from jax_resnet.training.task import Task


def new_metadata(
    task: Task, builder: RunBuilder, dataset: data.Dataset, parameters: int
) -> RunMetadata:
    """Returns the metadata of a new run, whose model has so many parameters."""
    settings = builder.settings
    info = RunInfo(
        title=printable(task.name),
        command=printable(task.command),
        started=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        device=builder.devices.describe(),
        platform=platform.platform(),
        versions=installed_versions(),
        parameters=parameters,
        dataset=dataset.info.name,
        n_train=len(dataset.train.labels),
        n_eval=len(dataset.evaluation.labels),
        eval_name=dataset.eval_name,
        batch_size=settings.train.batch_size,
        seed=settings.seed,
        initial_model=builder.describe_start(),
        **_changeable(builder),
    )
    return RunMetadata(
        model=builder.architecture,
        dataset=dataset.info,
        config=config.to_json(settings),
        run=info,
        clock=Clock(),
        history=[],
        compile_seconds=0.0,
    )


def resumed_metadata(point: ResumePoint, builder: RunBuilder) -> RunMetadata:
    """Returns the metadata of a resumed run, with its accepted changes.

    Raises UserError if the teacher is another one than before.
    """
    before, settings = point.metadata, builder.settings
    current = _changeable(builder)
    _check_teacher(before.run.teacher, current["teacher"], point.changes)
    step = point.checkpoint.step
    changes = (f"from step {step} on {change}" for change in point.changes)
    info = dataclasses.replace(
        before.run, changes=(*before.run.changes, *changes), **current
    )
    return dataclasses.replace(
        before,
        model={**before.model, "dtype": settings.model.dtype},
        config=config.to_json(settings),
        run=info,
    )


def _changeable(builder: RunBuilder) -> dict[str, Any]:
    """Returns the info that follows fields which may change on resuming."""
    settings = builder.settings
    epochs, decay = settings.train.epochs, settings.ema.decay
    teacher = builder.teacher
    return {
        "image_sizes": image_sizes.describe(settings.train.image_sizes),
        "epochs": epochs,
        "dtype": settings.model.dtype,
        "teacher": teacher.describe() if teacher else "",
        "evaluated": f"an average of the weights, decay {decay:g}" if decay else "",
    }


def _check_teacher(before: str, current: str, changes: Sequence[str]) -> None:
    is_new = any(change.startswith("distill.teacher ") for change in changes)
    if current != before and not is_new:
        raise UserError(
            f"distill.teacher was {before}, and is {current}: put that model back, or "
            "choose another --workdir"
        )
