"""Where a run resumes, and whether it may."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jax_resnet import config
from jax_resnet.checkpoint import store
from jax_resnet.checkpoint.metadata import RunMetadata
from jax_resnet.checkpoint.store import Checkpoint, Tree
from jax_resnet.config import Resume
from jax_resnet.model.weights import Weights, from_arrays, to_arrays
from jax_resnet.runtime.errors import UserError
from jax_resnet.training.metrics import RunningMetrics
from jax_resnet.training.state import TrainState


@dataclass(frozen=True)
class ResumePoint:
    """Where a run goes on."""

    checkpoint: Checkpoint  # the latest checkpoint
    metadata: RunMetadata  # the metadata in the checkpoint
    changes: list[str]  # accepted changes of the config, in words

    def is_finished(self, epochs: int) -> bool:
        """Whether all epochs are done, and with this very config."""
        return len(self.metadata.history) == epochs and not self.changes

    def restore(
        self, state: TrainState, metrics: RunningMetrics
    ) -> tuple[TrainState, RunningMetrics]:
        """Returns the saved state and metrics, in the structure of those given.

        Raises UserError if the checkpoint is damaged, or of another model.
        """
        # With an average, both have weights: those of the training come last.
        arrays = self.checkpoint.arrays("model") | self.checkpoint.arrays("training")
        template: dict[str, Any] = {"state": state, "sums": metrics}
        try:
            restored = from_arrays(template, arrays)
        except UserError as error:
            if not self.changes:
                raise
            raise UserError(
                "the state that was saved does not fit the changed config "
                f"({'; '.join(self.changes)}): choose another --workdir"
            ) from error
        return restored["state"], restored["sums"]


def resume_point(
    workdir: Path, settings: Mapping[str, Any], *, accept_changes: bool = False
) -> ResumePoint | None:
    """Returns the latest checkpoint of a workdir; None if the run has to start.

    The settings are the config to go on with, as JSON. Raises UserError if the workdir
    holds a run of another config.
    """
    if store.saved_steps(workdir):
        latest = store.select(workdir, "latest")
        metadata = RunMetadata.from_json(latest.metadata)
        changes = _changes(workdir, metadata.config, settings, accept_changes)
        done = len(metadata.history)
        if settings["train"]["epochs"] < done:
            raise UserError(
                f"train.epochs is {settings['train']['epochs']}, and workdir "
                f"{str(workdir)!r} has {done} already: choose another --workdir"
            )
        return ResumePoint(latest, metadata, changes)
    path = workdir / "config.json"
    if path.exists():
        try:
            before = json.loads(path.read_bytes())
            if not isinstance(before, dict):
                raise ValueError("it is no config")
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(
                f"cannot tell which run workdir {str(workdir)!r} holds, because its "
                f"config.json is damaged ({error}): choose another --workdir"
            ) from error
        _changes(workdir, before, settings, accept_changes)
    return None


def _changes(
    workdir: Path,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    accept_changes: bool,
) -> list[str]:
    """Returns the accepted differences in words; raises UserError for others."""
    if after.get("model", {}).get("dtype") == "auto":
        # Whatever device the run began on, it keeps the type that it began with.
        kept = before.get("model", {}).get("dtype", "auto")
        after = {**after, "model": {**after["model"], "dtype": kept}}
    differences = config.differences(before, after).items()
    rules = {name: config.resume_rule(name) for name, _ in differences}
    different = [line for name, line in differences if rules[name] is not Resume.ALWAYS]
    refused = [line for name, line in differences if rules[name] is Resume.NEVER]
    if not different or (accept_changes and not refused):
        return different
    listed = refused if accept_changes else different
    more = f"; and {len(listed) - 5} more" if len(listed) > 5 else ""
    go_on = "" if refused else ", or --accept-changes to go on with it changed"
    raise UserError(
        f"workdir {str(workdir)!r} holds a run of another config: "
        f"{'; '.join(listed[:5])}{more}; choose another --workdir to leave it "
        f"alone{go_on}"
    )


def to_trees(
    state: TrainState, metrics: RunningMetrics, *, epoch_ends: bool
) -> tuple[Tree, Tree]:
    """Returns the two trees of a checkpoint: the model, and the rest of the state.

    The state is in host memory. Only where the epoch ends has the average of the
    weights, if there is one, its BatchNorm statistics.
    """
    own = Weights(state.params, state.batch_stats)
    model = to_arrays({"state": state.weights if epoch_ends else own})
    training = to_arrays({"state": state, "sums": metrics})
    if state.average is None:  # with one, these are the weights behind the average
        training = {n: array for n, array in training.items() if n not in model}
    return model, training
