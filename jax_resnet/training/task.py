"""A run to train, and how it ended."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ml_collections import ConfigDict

from jax_resnet.checkpoint.history import EpochRecord, best_epoch
from jax_resnet.checkpoint.metadata import RunMetadata

Say = Callable[[str], None]
OnEpoch = Callable[[EpochRecord], None]


@dataclass(frozen=True)
class Task:
    """A run to train."""

    settings: ConfigDict  # a config, from :func:`jax_resnet.config.load`
    workdir: Path  # the run directory
    name: str
    command: str  # the command line that starts it, for the log
    # whether an unfinished run may go on with a changed config
    accept_changes: bool = False
    # takes lines for people; None prints them, and shows a bar on a terminal
    say: Say | None = None
    # called with a copy of each epoch's record, while the epoch is saved
    on_epoch: OnEpoch | None = None


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    workdir: Path
    metadata: RunMetadata  # the metadata, with the history of the epochs
    # why it stopped before the last epoch, such as ``SIGTERM`` or ``time limit``; None
    # if it is complete
    stopped_by: str | None = None

    @property
    def last(self) -> EpochRecord | None:
        """The last epoch; None if none was done."""
        return self.metadata.history[-1] if self.metadata.history else None

    @property
    def best(self) -> EpochRecord | None:
        """The epoch of highest validation top-1; None if none was done."""
        return best_epoch(self.metadata.history)
