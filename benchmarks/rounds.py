"""Runs the throughput benchmark's variants in turns, each in its own process."""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from variant import Options

from jax_resnet.errors import UserError


class FailedError(Exception):
    """A worker has ended, or cannot begin."""


@dataclasses.dataclass
class Result:
    """What one variant has given so far.

    Attributes:
        warm_up: seconds of compilation and the first steps.
        rounds: seconds of each round.
        peak_memory: bytes.
    """

    warm_up: float
    rounds: list[float] = dataclasses.field(default_factory=list)
    peak_memory: int = 0


class Worker:
    """A process that runs one variant.

    Args:
        name: in ``LABELS``.
        options: the work.
        environment: of the process.
        log: takes its standard error.
    """

    def __init__(
        self, name: str, options: Options, environment: Mapping[str, str], log: Path
    ):
        self._log = log
        script = Path(__file__).with_name("worker.py")
        fields = json.dumps(dataclasses.asdict(options))
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, str(script), name, fields],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
            )

    def answer(self) -> dict[str, Any]:
        """Waits for the next answer.

        Raises:
            FailedError: there is none, with what is known of the reason.
            UserError: the worker refuses the options.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            lines = self._log.read_text(errors="replace").strip().splitlines()
            _say("\n".join(lines[-30:]))
            raise FailedError(
                f"failed with exit code {code}: {' '.join(lines[-1:])[:300]}"
            )
        answer = json.loads(line)
        if "skipped" in answer:
            raise FailedError(f"skipped: {answer['skipped']}")
        if "refused" in answer:
            raise UserError(answer["refused"])
        return answer

    def run(self, steps: int) -> dict[str, Any]:
        """Has a round run, and waits for its answer; errors as :meth:`answer`'s."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{steps}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # It has ended; the answer says why.
        return self.answer()

    def close(self) -> None:
        """Ends the process, which ends by itself when it waits for a round."""
        try:
            self._process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


@contextmanager
def _workplace() -> Iterator[tuple[dict[str, str], Path]]:
    """The workers' environment, and a folder for their logs."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            # Several processes share the GPU, and none may take most of its memory.
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            # Compilation is measured, not looked up.
            "TORCHINDUCTOR_CACHE_DIR": str(Path(folder) / "inductor"),
            "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",
        }
        yield environment, Path(folder)


@dataclasses.dataclass
class Measurement:
    """What all variants have given.

    Attributes:
        results: by variant; of those that began.
        notes: by variant, why there is no more of it.
        versions: of packages.
        gpu: its name, or nothing.
    """

    results: dict[str, Result] = dataclasses.field(default_factory=dict)
    notes: dict[str, str] = dataclasses.field(default_factory=dict)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    gpu: str = ""


def measure(
    names: Sequence[str], options: Options, *, steps: int, rounds: int
) -> Measurement:
    """Runs every variant, in turns.

    Args:
        names: of variants, in ``LABELS``.
        options: the work.
        steps: of a round.
        rounds: for each variant.

    Raises:
        UserError: a worker refuses the options.
    """
    measured = Measurement()
    workers: dict[str, Worker] = {}

    def drop(name: str, note: str) -> None:
        workers.pop(name).close()
        measured.notes[name] = note
        _say(f"{name}: {note}")

    with _workplace() as (environment, folder):
        try:
            for name in names:
                workers[name] = Worker(name, options, environment, folder / name)
                try:
                    answer = workers[name].answer()
                except FailedError as error:
                    drop(name, str(error))
                    continue
                measured.results[name] = Result(answer["seconds"])
                measured.versions |= answer["versions"]
                measured.gpu = measured.gpu or answer["gpu"]
                _say(f"{name}: warmed up in {answer['seconds']:.1f} s")
            for index in range(rounds):
                for name in list(workers):
                    try:
                        answer = workers[name].run(steps)
                    except FailedError as error:
                        drop(name, f"{error} (in round {index + 1})")
                        continue
                    result = measured.results[name]
                    result.rounds.append(answer["seconds"])
                    result.peak_memory = answer["peak_memory"]
                    rate = steps * options.batch_size / answer["seconds"]
                    _say(f"round {index + 1}/{rounds}, {name}: {rate:,.0f} images/s")
        finally:
            for worker in workers.values():
                worker.close()
    return measured


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
