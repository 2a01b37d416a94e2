"""A run to train, and how it ended."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ml_collections import ConfigDict

from jax_resnet.checkpoint.history import EpochRecord, best_epoch
from jax_resnet.checkpoint.metadata import RunMetadata

Say = Callable[[str], None]


@dataclass(frozen=True)
class Task:
    """A run to train.

    Attributes:
        settings: a config, from :func:`jax_resnet.config.load`.
        workdir: the run directory.
        name: name of the run.
        command: the command line that starts it, for the log.
        accept_changes: whether an unfinished run may go on with a changed config.
        say: takes lines for people; None prints them, and shows a bar on a terminal.
    """

    settings: ConfigDict
    workdir: Path
    name: str
    command: str
    accept_changes: bool = False
    say: Say | None = None


@dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
        workdir: the run directory.
        metadata: the metadata, with the history of the epochs.
        stopped_by: why it stopped before the last epoch, such as ``SIGTERM`` or
            ``time limit``; None if it is complete.
    """

    workdir: Path
    metadata: RunMetadata
    stopped_by: str | None = None

    @property
    def last(self) -> EpochRecord | None:
        """The last epoch; None if none was done."""
        return self.metadata.history[-1] if self.metadata.history else None

    @property
    def best(self) -> EpochRecord | None:
        """The epoch of highest validation top-1; None if none was done."""
        return best_epoch(self.metadata.history)
