"""Runs the variants of a benchmark in turns, each in a process of its own."""

import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from variant import Options

from jax_resnet.runtime.errors import UserError


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
        name: of the program, and after it XLA's flags and variables of the
            environment for this process alone.
        options: the work.
        environment: of the process, but for these settings.
        log: takes its standard error.
        python: that runs it.

    Raises:
        FailedError: for a flag that the environment sets already.
    """

    def __init__(
        self,
        name: str,
        options: Options,
        environment: Mapping[str, str],
        log: Path,
        python: str = sys.executable,
    ):
        self._log = log
        script = Path(__file__).with_name("worker.py")
        fields = json.dumps(dataclasses.asdict(options))
        program, *settings = name.split()
        with log.open("w", encoding="utf-8") as errors:
            self._process = subprocess.Popen(
                [python, str(script), program, fields],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=with_settings(environment, settings),
            )

    def answer(self, seconds: float | None = None) -> dict[str, Any]:
        """Waits for the next answer.

        Args:
            seconds: to wait at the most.

        Raises:
            FailedError: there is none, with what is known of the reason.
            UserError: the worker refuses the options.
        """
        assert self._process.stdout is not None
        late = threading.Event()

        def kill() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(seconds or 0, kill)
        if seconds:
            timer.start()
        line = self._process.stdout.readline()
        timer.cancel()
        if not line:
            code = self._process.wait()
            if late.is_set():
                raise FailedError(f"skipped: no answer within {seconds:g} s")
            raise FailedError(_reason(code, self._log.read_text("utf-8", "replace")))
        answer = json.loads(line)
        if "skipped" in answer:
            raise FailedError(f"skipped: {answer['skipped']}")
        if "refused" in answer:
            raise UserError(answer["refused"])
        return answer

    def run(self, steps: int, seconds: float | None = None) -> dict[str, Any]:
        """Has a round run, and waits for its answer; for the rest as :meth:`answer`."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{steps}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # It has ended; the answer says why.
        return self.answer(seconds)

    def close(self) -> None:
        """Ends the process, which ends by itself when it waits for a round."""
        try:
            self._process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


def with_settings(
    environment: Mapping[str, str], settings: Sequence[str]
) -> dict[str, str]:
    """The environment with variables, and with XLA's flags after those that are there.

    Args:
        environment: to begin with.
        settings: ``--flag=value`` of XLA, or ``NAME=VALUE`` for the environment.

    Raises:
        FailedError: for a flag that is there: it is the user's.
    """
    flags = [setting for setting in settings if setting.startswith("--")]
    variables = dict(s.split("=", 1) for s in settings if not s.startswith("--"))
    there = environment.get("XLA_FLAGS", "")
    names = {flag.partition("=")[0] for flag in there.split()}
    for flag in flags:
        if (name := flag.partition("=")[0]) in names:
            raise FailedError(f"skipped: XLA_FLAGS has {name} already")
    joined = " ".join([there, *flags]).strip()
    return {**environment, **variables, "XLA_FLAGS": joined}


def _reason(code: int, log: str) -> str:
    """Why a worker has ended, by its exit code and what it printed."""
    # XLA ends the process, and lists all flags it knows when it refuses a value.
    if match := re.search(r"Unknown flags? in XLA_FLAGS: (.*)", log):
        return f"skipped: not known to this jaxlib: {match[1]}"
    if re.search("Flag parsing failed", log):
        refused = re.search(r"(Illegal value|Couldn't interpret value) .*", log)
        return f"skipped: refused by this jaxlib: {refused[0] if refused else ''}"
    lines = log.strip().splitlines()
    say("\n".join(lines[-30:]))
    return f"failed with exit code {code}: {' '.join(lines[-1:])[:300]}"


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
    names: Sequence[str],
    options: Options,
    *,
    steps: int,
    rounds: int,
    at_once: int = 1,
    patience: float | None = None,
    torch_python: str = sys.executable,
    after_round: Callable[[Measurement], None] = lambda measured: None,
) -> Measurement:
    """Runs every variant, in turns.

    Args:
        names: of variants, as :class:`Worker` takes them.
        options: the work.
        steps: of a round.
        rounds: for each variant.
        at_once: variants that compile beside each other; none is timed meanwhile.
        patience: seconds that compilation and the first steps, or a round, may take.
        torch_python: runs the variants of PyTorch.
        after_round: gets all there is so far.

    Raises:
        UserError: a worker refuses the options.
    """
    names = list(dict.fromkeys(names))
    measured = Measurement()
    workers: dict[str, Worker] = {}

    def drop(name: str, note: str) -> None:
        measured.notes[name] = note
        say(f"{name}: {note}")
        if name in workers:
            workers.pop(name).close()

    with _workplace() as (environment, folder):

        def begin(name: str) -> dict[str, Any] | FailedError:
            try:
                log = folder / f"{names.index(name)}.log"
                python = torch_python if name.startswith("torch") else sys.executable
                workers[name] = Worker(name, options, environment, log, python)
                answer = workers[name].answer(patience)
            except FailedError as error:
                return error
            say(f"{name}: warmed up in {answer['seconds']:.1f} s")
            return answer

        try:
            with ThreadPoolExecutor(at_once) as pool:
                answers = list(pool.map(begin, names))
            for name, answer in zip(names, answers, strict=True):
                if isinstance(answer, FailedError):
                    drop(name, str(answer))
                    continue
                measured.results[name] = Result(answer["seconds"])
                measured.versions |= answer["versions"]
                measured.gpu = measured.gpu or answer["gpu"]
            for index in range(rounds):
                for name in measured.results:
                    if name not in workers:
                        continue
                    try:
                        answer = workers[name].run(steps, patience)
                    except FailedError as error:
                        drop(name, f"{error} (in round {index + 1})")
                        continue
                    result = measured.results[name]
                    result.rounds.append(answer["seconds"])
                    result.peak_memory = answer["peak_memory"]
                    rate = steps * options.batch_size / answer["seconds"]
                    say(f"round {index + 1}/{rounds}, {name}: {rate:,.0f} images/s")
                after_round(measured)
        finally:
            if workers:
                with ThreadPoolExecutor(len(workers)) as pool:
                    list(pool.map(Worker.close, workers.values()))
    return measured


def say(line: str) -> None:
    """Tells people how it goes."""
    print(line, file=sys.stderr, flush=True)
