"""Trains a run, from its start or where it stopped, under the workdir's lock."""

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path

import jax
from ml_collections import ConfigDict

from jax_resnet import config
from jax_resnet.checkpoint import store
from jax_resnet.checkpoint.metadata import RunMetadata
from jax_resnet.data.sources import is_prepared
from jax_resnet.distributed.mesh import DeviceMesh
from jax_resnet.distributed.processes import Processes
from jax_resnet.reporting.report import is_complete
from jax_resnet.runtime import text
from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.jax_settings import fixed_settings
from jax_resnet.runtime.lock import workdir_lock
from jax_resnet.runtime.signals import Interrupt
from jax_resnet.training.build import check
from jax_resnet.training.call_queue import CallQueue
from jax_resnet.training.loop import Loop
from jax_resnet.training.resume import ResumePoint, resume_point
from jax_resnet.training.run_writer import RunWriter
from jax_resnet.training.start import StartedRun, start_run
from jax_resnet.training.task import Result, Say, Task

# Fields in which the processes of a run may differ.
_OWN_FIELDS = ("data.dir", "data.cache_dir", "train.compilation_cache")


@fixed_settings()
def train(
    task: Task,
    processes: Processes,
    interrupt: Interrupt,
    devices: DeviceMesh | None = None,
) -> Result:
    """Trains to the last epoch, from the start or from where the workdir stands.

    Args:
        task: the run.
        processes: the processes that train it together, each calling this.
        interrupt: says when to stop.
        devices: the devices to use; None selects those that the config names.

    Raises:
        UserError: if the user must change something.
    """
    say = _speaker(task, processes)
    with _locked(task.workdir, processes):
        point = _resume_point(task, processes, say)
        if point and point.is_finished(task.settings.train.epochs):
            _complete_report(task, processes, point.metadata)
            say(f"{task.name} in {task.workdir} is complete")
            return _announced(Result(task.workdir, point.metadata), say)
        if devices is None:
            settings = task.settings
            devices = DeviceMesh.select(settings.train.device, settings.mesh.devices)
        with jax.default_device(devices.first):
            run = start_run(task, processes, devices, point, say)
            metadata = _run_loop(run, task, processes, interrupt)
        if len(metadata.history) == task.settings.train.epochs:
            return _announced(Result(task.workdir, metadata), say)
        say("stopped; the same command resumes")
        return Result(task.workdir, metadata, stopped_by=interrupt.reason)


def _run_loop(
    run: StartedRun, task: Task, processes: Processes, interrupt: Interrupt
) -> RunMetadata:
    """Runs the loop to its end or until the interrupt is due, and saves the run."""
    with (
        interrupt.working(),
        processes.detect_lost_process(),
        _writer(task, processes, run.metadata) as writer,
        contextlib.closing(run.progress),
    ):
        writer.write_behind("augmentations.png", run.draw_preview)
        calls = CallQueue(
            run.steps.pipeline.devices,
            processes,
            interrupt,
            steps_per_call=task.settings.train.steps_per_call,
            clock=run.metadata.clock,
        )
        loop = Loop(run, calls, writer, task.on_epoch)
        state, metrics, metadata = loop.run()
        writer.complete = len(metadata.history) == run.settings.train.epochs
        if not writer.complete:
            writer.save_interrupted(state, metrics, metadata)
    return metadata


@contextlib.contextmanager
def _locked(workdir: Path, processes: Processes) -> Iterator[None]:
    """Holds the lock of the workdir, in the first process for all of them."""
    with contextlib.ExitStack() as stack:
        with processes.all_or_none():
            if processes.is_first:
                stack.enter_context(workdir_lock(workdir))
        yield


def _resume_point(task: Task, processes: Processes, say: Say) -> ResumePoint | None:
    """Finds the checkpoint to go on from, and sets damaged ones aside."""
    with processes.all_or_none() as must_match:
        damaged = store.find_damaged(task.workdir)
        must_match["list of damaged checkpoints"] = [*damaged]
    with processes.all_or_none():
        if processes.is_first:
            for note in store.set_aside(task.workdir, damaged):
                say(f"warning: {note}")
    with processes.all_or_none() as must_match:
        as_json = config.to_json(task.settings)
        must_match["config"] = config.fingerprint(as_json, _OWN_FIELDS)
        try:
            point = resume_point(
                task.workdir, as_json, accept_changes=task.accept_changes
            )
        except UserError:
            _check(task.settings)
            raise
        must_match["checkpoint"] = point.checkpoint.step if point else None
    return point


def _check(settings: ConfigDict) -> None:
    """Raises UserError for a mistake in a config, before one about the workdir."""
    # Data are not prepared to find one.
    if is_prepared(settings.data.name, settings.data.dir or None):
        devices = DeviceMesh.select(settings.train.device, settings.mesh.devices)
        with jax.default_device(devices.first):
            check(settings, devices)


def _writer(task: Task, processes: Processes, metadata: RunMetadata) -> RunWriter:
    keep_latest = task.settings.checkpoint.keep_latest
    return RunWriter(task.workdir, processes, metadata, keep_latest=keep_latest)


def _complete_report(task: Task, processes: Processes, metadata: RunMetadata) -> None:
    """Writes the final report of a complete run that was killed before it did."""
    if not is_complete(task.workdir):
        with _writer(task, processes, metadata) as writer:
            writer.complete = True


def _speaker(task: Task, processes: Processes) -> Say:
    if not processes.is_first:
        return lambda line: None
    return task.say or text.say


def _announced(result: Result, say: Say) -> Result:
    """Prints the accuracy of a complete run."""
    last, best = result.last, result.best
    assert last is not None and best is not None
    eval_name = result.metadata.run.eval_name
    say(
        f"done: last epoch {100 * last['val_top1']:.2f} % top-1 on {eval_name}, best "
        f"{100 * best['val_top1']:.2f} % (epoch {best['epoch']}, selected on "
        f"{eval_name}); see {result.workdir / 'log.md'}"
    )
    workdir = str(result.workdir)
    if workdir.startswith("-"):  # which would be an option
        workdir = f"./{workdir}"
    command = ["python", "-m", "jax_resnet.evaluate", "--workdir", workdir]
    say(f"evaluate it with: {shlex.join(command)}")
    return result
