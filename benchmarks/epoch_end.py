"""Times the end of an epoch: recording, reporting, saving a checkpoint.

    python benchmarks/epoch_end.py

The steps sleep instead of computing, as if an accelerator did the work, and the state
is that of a real run. The same calls are made with and without the end of each epoch:
the difference is what a run spends there beyond computing.
"""

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tables
from variant import random_info

from jax_resnet import config, data
from jax_resnet.checkpoint.history import Clock, installed_versions
from jax_resnet.distributed.mesh import REPLICATED, DeviceMesh
from jax_resnet.distributed.processes import Processes
from jax_resnet.model.weights import parameter_count
from jax_resnet.reporting.progress import Progress
from jax_resnet.runtime.command_line import Parser, run
from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.signals import Interrupt
from jax_resnet.training.build import BuiltRun, RunBuilder
from jax_resnet.training.call_queue import CallQueue
from jax_resnet.training.loop import Loop, LoopConfig
from jax_resnet.training.metrics import RunningMetrics
from jax_resnet.training.multi_step import MultiStep
from jax_resnet.training.run_metadata import new_metadata
from jax_resnet.training.run_writer import RunWriter

REFERENCE = Path(__file__).parent.parent / "configs" / "resnet56.py"
# Images of a step, and steps of an epoch: long ones, as calls on an accelerator are.
BATCH, STEPS = 100, 2
ZEROS = RunningMetrics.zeros


class SleepingSteps:
    """Steps that count images and sleep, in place of a run's compiled steps.

    Args:
        built: the run.
        seconds: duration of a step.
    """

    statistics = None
    compile_seconds = 0.0

    def __init__(self, built: BuiltRun, seconds: float):
        self.image_sizes = built.steps.image_sizes

        def sleep(step: np.ndarray) -> np.ndarray:
            time.sleep(seconds)
            return np.int32(BATCH) + 0 * step

        def count(step: jax.Array, metrics: RunningMetrics) -> RunningMetrics:
            scalar = jax.ShapeDtypeStruct((), np.int32)
            images = jax.pure_callback(sleep, scalar, step)
            loss, bad_step = jnp.float32(BATCH), jnp.int32(-1)
            return metrics + RunningMetrics(loss, images, images, images, bad_step)

        def train_step(carry: Any, *_: Any) -> Any:
            state, metrics = carry
            metrics = count(state.step, metrics)
            return jax.tree.map(lambda leaf: leaf + 1, state), metrics

        def eval_step(carry: Any, *_: Any) -> Any:
            step, metrics = carry
            return step + 1, count(step, metrics)

        pipeline = built.pipeline
        devices, layouts = pipeline.devices, (*pipeline.eval_layouts, REPLICATED)
        self._train = MultiStep(train_step, devices, pipeline.train_layouts, None)
        self.evaluate = MultiStep(eval_step, devices, layouts, None)

    def train(self, epoch: int) -> MultiStep:
        """The training step, which is the same in each epoch."""
        del epoch
        return self._train


def built_run(depth: int, epochs: int) -> tuple[RunBuilder, BuiltRun, data.Dataset]:
    """Builds the reference recipe on random images."""
    fields = {
        "model.depth": depth,
        "train.epochs": epochs,
        "train.batch_size": BATCH,
        "train.eval_batch_size": BATCH,
    }
    overrides = [f"--config.{name}={value}" for name, value in fields.items()]
    settings = config.with_dtype(config.load(str(REFERENCE), overrides), "float32")
    info = random_info()
    n = BATCH * STEPS
    split = data.Split(np.zeros((n, 32, 32, 3), np.uint8), np.zeros(n, np.int32))
    evaluation = data.Split(split.images[:BATCH], split.labels[:BATCH])
    devices = DeviceMesh((jax.local_devices(backend="cpu")[0],))
    builder = RunBuilder(settings, devices, info, n_train=n, n_eval=BATCH)
    return (
        builder,
        builder.build(jax.random.key(0)),
        data.Dataset(info, split, evaluation, "test"),
    )


@dataclass(frozen=True)
class Seconds:
    """The seconds that all epochs took.

    Attributes:
        wall: by the clock.
        thread: of work in the thread that trains, without its waiting.
    """

    wall: float
    thread: float


@contextlib.contextmanager
def timed(seconds: list[Seconds]) -> Iterator[None]:
    """Appends what a block took."""
    wall, thread = time.perf_counter(), time.thread_time()
    yield
    took = time.perf_counter() - wall, time.thread_time() - thread
    seconds.append(Seconds(*took))


class Run:
    """All epochs of a run, with their ends or without.

    Args:
        builder: built the run.
        built: the run, its images loaded.
        dataset: these images.
        steps: its steps, or those in their place.
    """

    def __init__(
        self, builder: RunBuilder, built: BuiltRun, dataset: data.Dataset, steps: Any
    ):
        self._builder, self._steps = builder, steps
        self._pipeline, self._place = built.pipeline, built.pipeline.devices.place
        self._epochs = builder.settings.train.epochs
        # On the host, as the steps take what is on the device.
        self._state = jax.device_get(built.state)
        parameters = parameter_count(built.state.params)
        self._metadata = new_metadata(builder, dataset, "benchmark", "", parameters)

    def _calls(self) -> tuple[CallQueue, tuple[Any, Any]]:
        carry = self._place((self._state, ZEROS()))
        together, interrupt, devices = Processes(), Interrupt(), self._pipeline.devices
        calls = CallQueue(devices, together, interrupt, steps_per_call=1, clock=Clock())
        return calls, carry

    def calls_alone(self) -> Seconds:
        """Makes all calls, and does nothing at the end of an epoch."""
        took: list[Seconds] = []
        calls, carry = self._calls()
        with timed(took):
            for epoch in range(self._epochs):
                chunks = self._pipeline.train_chunks(epoch, 0)
                carry, _ = calls.apply(self._steps.train(epoch), carry, chunks)
                evaluation = self._place((np.int32(0), ZEROS()))
                chunks, constants = self._pipeline.eval_chunks(), (carry[0].weights,)
                evaluate = self._steps.evaluate
                calls.apply(evaluate, evaluation, chunks, constants=constants)
            calls.wait()
        return took[0]

    def whole(self, workdir: Path) -> Seconds:
        """Makes all calls in the loop that records, reports and saves."""
        took: list[Seconds] = []
        calls, carry = self._calls()
        progress = Progress(
            first_step=0,
            total_steps=self._epochs * STEPS,
            steps_per_epoch=STEPS,
            batch_size=BATCH,
            estimate=False,
            say=lambda line: None,
        )
        config = LoopConfig(self._epochs, self._builder.learning_rates())
        with RunWriter(workdir, Processes(), self._metadata, keep_latest=2) as writer:
            loop = Loop(config, self._steps, self._pipeline, calls, writer, progress)
            with timed(took):
                loop.run(*carry, self._metadata)
            writer.complete = True
        return took[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns 0."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    chosen = _parse(arguments)
    jax.config.update("jax_platforms", "cpu")
    load = os.getloadavg()[0]
    builder, built, dataset = built_run(chosen.depth, chosen.epochs)
    built.pipeline.load(dataset, jax.random.key(1), jax.random.key(2))
    steps = SleepingSteps(built, chosen.seconds / (STEPS + 1))
    benchmark = Run(builder, built, dataset, steps)
    benchmark.calls_alone()  # compiles
    alone = benchmark.calls_alone()
    with tempfile.TemporaryDirectory() as folder:
        loop = benchmark.whole(Path(folder) / "run")
    work = (
        f"Work: {chosen.epochs} epochs of {STEPS + 1} steps that sleep "
        f"{chosen.seconds:g} s together, with the state of ResNet-{chosen.depth}",
        "Beyond computing: the loop less the same calls alone. The steps are Python's, "
        "and wait for the thread that saves; those of an accelerator do not",
    )
    versions = installed_versions()
    heading = tables.heading(
        "epoch_end.py", arguments, work, load=load, versions=versions
    )
    rows = [
        (kind, f"{a:.2f}", f"{b:.2f}", f"{1e3 * (b - a) / chosen.epochs:.0f}")
        for kind, a, b in (
            ("by the clock", alone.wall, loop.wall),
            ("work of the training thread", alone.thread, loop.thread),
        )
    ]
    columns = ("", "calls alone, s", "loop, s", "beyond computing, ms an epoch")
    report = f"{heading}\n\n{tables.table(columns, rows)}\n"
    tables.write(report, chosen.output)
    print(report, end="", flush=True)
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="epoch_end.py", description="Times the end of an epoch.")
    parser.add_argument("--depth", type=int, default=56)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=1.0, help="of an epoch; 1")
    parser.add_argument("--output", help="file for the report")
    chosen = parser.parse_args(arguments)
    if chosen.epochs < 1 or not chosen.seconds > 0:
        raise UserError("--epochs and --seconds must be above 0")
    return chosen


if __name__ == "__main__":
    run(main)
