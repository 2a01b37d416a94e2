"""One run: from a config to its last epoch, or to where it was stopped."""

import contextlib
import dataclasses
import datetime
import platform
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from jax_resnet import checkpoint, config, data, device
from jax_resnet import state as states
from jax_resnet.errors import UserError
from jax_resnet.history import Clock, RunInfo, best_epoch, installed_versions
from jax_resnet.interrupt import Interrupt
from jax_resnet.loop import Loop, Work
from jax_resnet.output import Output
from jax_resnet.parallel import Devices
from jax_resnet.plan import Plan, describe_data
from jax_resnet.processes import Processes
from jax_resnet.progress import Progress
from jax_resnet.record import RunRecord
from jax_resnet.report import is_complete
from jax_resnet.resume import ResumePoint, resume_point
from jax_resnet.state import TrainState
from jax_resnet.workdir import claimed

# In which the processes of a run may differ.
_OWN_FIELDS = ("data.dir", "data.cache_dir", "train.compilation_cache")


@dataclass(frozen=True)
class Task:
    """What a run is.

    Attributes:
        settings: a config, from :func:`jax_resnet.config.load`.
        workdir: the run directory.
        name: of the run.
        command: that starts it.
        accept_changes: see :func:`~jax_resnet.resume.resume_point`.
        say: takes lines for people; None prints them, and shows a bar on a terminal.
    """

    settings: ConfigDict
    workdir: Path
    name: str
    command: str
    accept_changes: bool = False
    say: Callable[[str], None] | None = None


def train(
    task: Task,
    processes: Processes,
    interrupt: Interrupt,
    devices: Devices | None = None,
) -> int:
    """Trains to the last epoch, from the start or from where the workdir stands.

    Args:
        task: what to train.
        processes: that do it together, each calling this.
        interrupt: noticed between steps.
        devices: None selects those that the config names.

    Returns:
        The exit code.

    Raises:
        UserError: if the user must change something.
    """
    say = _speaker(task, processes)
    settings, workdir = task.settings, task.workdir
    with contextlib.ExitStack() as stack:
        with processes.united():
            if processes.is_first:
                stack.enter_context(claimed(workdir))
        with processes.united() as facts:
            damaged = checkpoint.find_damaged(workdir)
            facts["list of damaged checkpoints"] = [*damaged]
        with processes.united():
            if processes.is_first:
                for note in checkpoint.set_aside(workdir, damaged):
                    say(f"warning: {note}")
        with processes.united() as facts:
            as_json = config.to_json(settings)
            facts["config"] = config.fingerprint(as_json, _OWN_FIELDS)
            point = resume_point(workdir, as_json, accept_changes=task.accept_changes)
            facts["checkpoint"] = point.checkpoint.step if point else None
        # The last step may have been set aside since the summary was written.
        finished = point and len(point.record.history) == settings.train.epochs
        if point and finished and is_complete(workdir) and not point.changes:
            say(f"{task.name} in {workdir} is complete")
            _say_result(say, workdir, point.record)
            return 0
        if devices is None:
            devices = Devices.select(settings.train.device, settings.mesh.devices)
        return _train(task, processes, devices, interrupt, point, say)


def _train(
    task: Task,
    processes: Processes,
    devices: Devices,
    interrupt: Interrupt,
    point: ResumePoint | None,
    say: Callable[[str], None],
) -> int:
    settings = task.settings
    device.cache_compilations(settings.train.compilation_cache, devices.first)
    say(f"{task.name}: training on {devices.describe()}")
    on_cpu = devices.first.platform == "cpu"
    if on_cpu and settings.train.device == "auto":
        say("No GPU was found; the CPU is far slower.")

    init_key, order_key, step_key = jax.random.split(jax.random.key(settings.seed), 3)
    with processes.united() as facts, ThreadPoolExecutor(1) as background:
        described = describe_data(settings)
        loading = background.submit(described.load)
        info = described.info or loading.result().info
        plan = Plan(settings, devices, described, info)
        programs, state = plan.build(init_key)
        if point is None:
            state = plan.with_initial_model(state)
        state = devices.place(state)
        with plan.exhaustion_explained():
            done = len(point.record.history) if point else 0
            compile_seconds = programs.compile(state, done)
        dataset = loading.result()
        sums = programs.zeros()
        if point is not None:
            state, sums = devices.place(point.restore(state, sums))
        if processes.count > 1:
            facts["data"] = zlib.crc32(dataset.train.images.data)
    say(
        f"{info.name}: {described.n_train:,} training images, {described.n_eval:,} of "
        f"{dataset.eval_name} for validation; "
        f"{states.parameter_count(state.params):,} parameters; compiled in "
        f"{compile_seconds:.1f} s"
    )
    if point is None:
        run_info = _run_info(task, plan, state, dataset)
        if run_info.initial_model:
            say(f"starting from the weights of {run_info.initial_model}")
        record = RunRecord(
            model=plan.architecture,
            dataset=info,
            config=config.to_json(settings),
            run=run_info,
            clock=Clock(),
            history=[],
            compile_seconds=compile_seconds,
        )
    else:
        record = _continued(point, plan, int(state.step), compile_seconds)
        say(f"resuming at step {int(state.step)}, {len(record.history)} epochs done")

    programs.feed.load(dataset, order_key)
    output = Output(
        task.workdir,
        processes,
        record,
        keep_latest=settings.checkpoint.keep_latest,
    )
    progress = Progress(
        first_step=int(state.step),
        total_steps=settings.train.epochs * programs.steps_per_epoch,
        steps_per_epoch=programs.steps_per_epoch,
        batch_size=programs.batch_size,
        estimate_aloud=on_cpu,
        say=task.say if processes.is_first else say,
    )
    loop = Loop(
        Work(
            programs=programs,
            step_key=devices.place(step_key),
            epochs=settings.train.epochs,
            learning_rates=plan.learning_rates(programs.steps_per_epoch),
            steps_per_call=settings.train.steps_per_call,
            max_skipped_steps=settings.train.max_skipped_steps,
        ),
        processes=processes,
        history=record.history,
        clock=record.clock,
        progress=progress,
        interrupt=interrupt,
        on_epoch=output.finish_epoch,
    )
    # How the output ends depends on what went wrong, and can go wrong in the same way.
    with (
        interrupt.working(),
        processes.lost_explained(),
        output,
        contextlib.closing(progress),
        processes.lost_explained(),
        plan.exhaustion_explained(),
    ):
        state, sums = loop.run(state, sums)
        output.complete = len(record.history) == settings.train.epochs
        if not output.complete:
            output.saver.save_interrupted(state, sums)
    if not output.complete:
        say("stopped; the same command resumes")
        return interrupt.exit_code
    _say_result(say, task.workdir, record)
    return 0


def _run_info(
    task: Task,
    plan: Plan,
    state: TrainState,
    dataset: data.Dataset,
) -> RunInfo:
    settings, source = plan.settings, plan.initial_model
    return RunInfo(
        title=task.name,
        command=task.command,
        started=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        device=plan.devices.describe(),
        platform=platform.platform(),
        versions=installed_versions(),
        parameters=states.parameter_count(state.params),
        dataset=dataset.info.name,
        n_train=len(dataset.train.labels),
        n_eval=len(dataset.evaluation.labels),
        eval_name=dataset.eval_name,
        batch_size=settings.train.batch_size,
        seed=settings.seed,
        initial_model=source.describe() if source else "",
        **_changeable(plan),
    )


def _changeable(plan: Plan) -> dict[str, Any]:
    """What the info says of fields that a run can go on with changed."""
    epochs, decay = plan.settings.train.epochs, plan.settings.ema.decay
    average = f"an average of the weights, decay {decay:g}" if decay else ""
    return {
        "image_sizes": plan.image_sizes.describe(epochs, plan.info.image_shape[0]),
        "epochs": epochs,
        "dtype": plan.settings.model.dtype,
        "teacher": plan.teacher.describe() if plan.teacher else "",
        "evaluated": average,
    }


def _continued(
    point: ResumePoint, plan: Plan, step: int, compile_seconds: float
) -> RunRecord:
    """The record of a run that goes on, with what was changed."""
    before, settings = point.record, plan.settings
    current = _changeable(plan)
    is_new = any(change.startswith("distill.teacher ") for change in point.changes)
    if current["teacher"] != before.run.teacher and not is_new:
        raise UserError(
            f"distill.teacher was {before.run.teacher}, and is {current['teacher']}: "
            "put that model back, or choose another --workdir"
        )
    changes = (f"from step {step} on {change}" for change in point.changes)
    run_info = dataclasses.replace(
        before.run,
        changes=(*before.run.changes, *changes),
        **current,
    )
    return dataclasses.replace(
        before,
        model={**before.model, "dtype": settings.model.dtype},
        config=config.to_json(settings),
        run=run_info,
        compile_seconds=before.compile_seconds + compile_seconds,
    )


def _speaker(task: Task, processes: Processes) -> Callable[[str], None]:
    if not processes.is_first:
        return lambda line: None
    return task.say or partial(print, flush=True)


def _say_result(say: Callable[[str], None], workdir: Path, record: RunRecord) -> None:
    last, best = record.history[-1], best_epoch(record.history)
    assert best is not None
    eval_name = record.run.eval_name
    say(
        f"done: last epoch {100 * last['val_top1']:.2f} % top-1 on {eval_name}, best "
        f"{100 * best['val_top1']:.2f} % (epoch {best['epoch']}, selected on "
        f"{eval_name}); see {workdir / 'log.md'}"
    )
    say(f"evaluate it with: python -m jax_resnet.evaluate --workdir {workdir}")
