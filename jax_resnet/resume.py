"""What a run saves so that it can go on, and how it goes on."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jax_resnet import checkpoint, config
from jax_resnet import state as states
from jax_resnet.errors import UserError
from jax_resnet.history import EpochRecord
from jax_resnet.loop import Clock
from jax_resnet.state import TrainState
from jax_resnet.steps import Sums


def resume_point(
    workdir: Path, settings: Mapping[str, Any], free_fields: Sequence[str]
) -> tuple[Path, dict[str, Any]] | None:
    """The latest checkpoint of a workdir; None if the run has to start.

    Args:
        workdir: the run directory.
        settings: the config of the run to go on with, as JSON.
        free_fields: those that may differ from the config that the run began with.

    Raises:
        UserError: if the workdir holds a run of another config.
    """
    path = workdir / "config.json"
    point = None
    if checkpoint.exists(workdir):
        point = checkpoint.select(workdir, "latest")
        before = point[1]["config"]
    elif path.exists():
        try:
            before = json.loads(path.read_text())
            if not isinstance(before, dict):
                raise ValueError("it is no config")
        except (OSError, ValueError) as error:
            raise UserError(
                f"cannot tell which run workdir {str(workdir)!r} holds, because its "
                f"config.json is damaged ({error}): choose another --workdir"
            ) from error
    else:
        return None
    if different := list(config.differences(before, settings, free_fields)):
        more = f"; and {len(different) - 5} more" if len(different) > 5 else ""
        raise UserError(
            f"workdir {str(workdir)!r} holds a run of another config: "
            f"{'; '.join(different[:5])}{more}; choose another --workdir to leave it "
            "alone"
        )
    return point


def restore(
    point: tuple[Path, dict[str, Any]], state: TrainState, sums: Sums
) -> tuple[TrainState, Sums]:
    """The state and the unfinished epoch's sums at a resume point.

    Args:
        point: from :func:`resume_point`.
        state: of the same structure.
        sums: likewise.

    Raises:
        UserError: if the checkpoint is damaged, or of another model.
    """
    path, metadata = point
    arrays = checkpoint.load(path, metadata, "model")
    arrays |= checkpoint.load(path, metadata, "training")
    template: dict[str, Any] = {"state": state, "sums": sums}
    restored = states.from_arrays(template, arrays)
    return restored["state"], restored["sums"]


class Saver:
    """Saves the state with all that a resumed run, or an evaluation, needs.

    Args:
        writer: of the run's checkpoints.
        clock: the run's, read at each save.
        history: the run's, read at each save.
        metadata: the rest of the checkpoint's metadata, which stays the same.
    """

    def __init__(
        self,
        writer: checkpoint.Writer,
        *,
        clock: Clock,
        history: list[EpochRecord],
        metadata: Mapping[str, Any],
    ):
        self._writer = writer
        self._clock = clock
        self._history = history
        self._metadata = metadata

    def save_epoch(self, state: TrainState) -> None:
        """Starts saving the end of the epoch that the history ends with."""
        record = self._history[-1]
        metrics = {"val_top1": record["val_top1"], "epoch": record["epoch"]}
        self._save(state, Sums.zeros(), metrics)

    def save_interrupted(self, state: TrainState, sums: Sums) -> None:
        """Starts saving an epoch that is not over."""
        self._save(state, sums, None)

    def _save(
        self, state: TrainState, sums: Sums, metrics: Mapping[str, float] | None
    ) -> None:
        training = states.to_arrays({"state": state, "sums": sums})
        weights = ("state.params.", "state.batch_stats.")
        names = [name for name in training if name.startswith(weights)]
        self._writer.save(
            int(state.step),
            model={name: training.pop(name) for name in names},
            training=training,
            metadata={
                **self._metadata,
                "clock": dataclasses.asdict(self._clock),
                "history": list(self._history),
            },
            metrics=metrics,
        )
