"""Trains a model: ``python -m jax_resnet.train --config configs/resnet56.py``."""

import dataclasses
import datetime
import platform
import shlex
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
from ml_collections import ConfigDict

from jax_resnet import checkpoint, config, data, device
from jax_resnet import state as states
from jax_resnet.command import Parser, run
from jax_resnet.errors import UserError
from jax_resnet.history import (
    Clock,
    EpochRecord,
    RunInfo,
    best_epoch,
    installed_versions,
)
from jax_resnet.interrupt import RESERVED_SECONDS, Interrupt
from jax_resnet.loop import Loop, Work
from jax_resnet.plan import Plan, describe_data
from jax_resnet.predict import Predictor
from jax_resnet.progress import Progress
from jax_resnet.record import RunRecord
from jax_resnet.report import Report, is_complete
from jax_resnet.resume import ResumePoint, Saver, resume_point
from jax_resnet.saving import Writer
from jax_resnet.state import TrainState
from jax_resnet.steps import Sums
from jax_resnet.workdir import claimed


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = Parser(
        prog="python -m jax_resnet.train",
        description="Trains a model, or resumes the unfinished run in the workdir.",
        epilog="Fields of the config are set by name, as in --config.train.epochs=30",
    )
    parser.add_argument("--config", required=True, help="such as configs/resnet56.py")
    parser.add_argument("--workdir", help="run directory; default runs/NAME_OF_CONFIG")
    parser.add_argument(
        "--max-seconds",
        type=float,
        help="save and stop in time to have ended after so many seconds; exit code 75",
    )
    parser.add_argument(
        "--accept-changes",
        action="store_true",
        help="go on with a run whose config has changed, where its state allows it",
    )
    arguments = sys.argv[1:] if arguments is None else arguments
    options, overrides = parser.parse_known_args(arguments)
    if options.max_seconds is not None and not options.max_seconds > RESERVED_SECONDS:
        raise UserError(
            f"--max-seconds must be more than {RESERVED_SECONDS:g}, which saving and "
            f"leaving may take, not {options.max_seconds:g}"
        )
    settings = config.load(options.config, overrides)
    name = Path(options.config).stem
    workdir = Path(options.workdir or Path("runs") / name)
    # Without the workdir: the record lies in it, and stays true where it is moved.
    command = shlex.join(
        ["python", "-m", "jax_resnet.train", "--config", options.config, *overrides]
    )
    with Interrupt(options.max_seconds) as interrupt, claimed(workdir):
        for note in checkpoint.set_aside_damaged(workdir):
            _say(f"warning: {note}")
        point = resume_point(
            workdir,
            config.to_json(settings),
            accept_changes=options.accept_changes,
        )
        # The last step may have been set aside since the summary was written.
        finished = point and len(point.record.history) == settings.train.epochs
        if point and finished and is_complete(workdir) and not point.changes:
            _say(f"{name} in {workdir} is complete")
            _say_result(workdir, point.record)
            return 0
        return train(settings, workdir, name, command, interrupt, point)


def train(
    settings: ConfigDict,
    workdir: Path,
    name: str,
    command: str,
    interrupt: Interrupt,
    point: ResumePoint | None,
) -> int:
    """Trains to the last epoch, from the start or from a checkpoint.

    Args:
        settings: a config, from :func:`config.load`.
        workdir: the run directory; ours alone.
        name: of the run.
        command: that started it.
        interrupt: noticed between steps.
        point: where to go on.

    Returns:
        The exit code.

    Raises:
        UserError: if the user must change something.
    """
    chosen = device.select(settings.train.device)
    device.cache_compilations(settings.train.compilation_cache, chosen)
    _say(f"{name}: training on {device.describe(chosen)}")
    if chosen.platform == "cpu" and settings.train.device == "auto":
        _say("No GPU was found; the CPU is far slower.")

    init_key, order_key, step_key = jax.random.split(jax.random.key(settings.seed), 3)
    with ThreadPoolExecutor(1) as background:
        described = describe_data(settings)
        loading = background.submit(described.load)
        info = described.info or loading.result().info
        plan = Plan(settings, chosen, described, info)
        programs, state = plan.build(init_key)
        source = _initial_model(settings, point)
        if source:
            state = plan.start_from(state, source)
        with plan.exhaustion_explained():
            compile_seconds = programs.compile(state)
        dataset = loading.result()
    _say(
        f"{info.name}: {described.n_train:,} training images, {described.n_eval:,} of "
        f"{dataset.eval_name} for validation; "
        f"{states.parameter_count(state.params):,} parameters; compiled in "
        f"{compile_seconds:.1f} s"
    )

    sums = Sums.zeros()
    if point is None:
        initial_model = ""
        if source:
            title = source.record.run.title
            initial_model = f"{source.source}: {title}, step {source.step}"
            _say(f"starting from the weights of {initial_model}")
        record = RunRecord(
            model=plan.architecture,
            dataset=info,
            config=config.to_json(settings),
            run=dataclasses.replace(
                _run_info(settings, name, command, chosen, state, dataset),
                initial_model=initial_model,
            ),
            clock=Clock(),
            history=[],
            compile_seconds=compile_seconds,
        )
    else:
        state, sums = point.restore(state, sums)
        record = _continued(point, settings, int(state.step), compile_seconds)
        _say(f"resuming at step {int(state.step)}, {len(record.history)} epochs done")

    report = Report(workdir, record)
    writer = Writer(workdir, keep_latest=settings.checkpoint.keep_latest)
    saver = Saver(writer, record)
    progress = Progress(
        first_step=int(state.step),
        total_steps=settings.train.epochs * programs.steps_per_epoch,
        steps_per_epoch=programs.steps_per_epoch,
        batch_size=programs.batch_size,
        estimate_aloud=chosen.platform == "cpu",
    )

    def finish_epoch(state: TrainState) -> None:
        report.update()
        saver.save_epoch(state)

    loop = Loop(
        Work(
            programs=programs,
            order_key=order_key,
            step_key=step_key,
            train_split=programs.place_train(dataset.train),
            eval_split=programs.place_eval(dataset.evaluation),
            epochs=settings.train.epochs,
            learning_rates=plan.learning_rates(programs.steps_per_epoch),
            steps_per_call=settings.train.steps_per_call,
            max_skipped_steps=settings.train.max_skipped_steps,
        ),
        history=record.history,
        clock=record.clock,
        progress=progress,
        interrupt=interrupt,
        on_epoch=finish_epoch,
    )
    interrupt.begin()
    complete = False
    try:
        with plan.exhaustion_explained():
            state, sums = loop.run(state, sums)
        complete = len(record.history) == settings.train.epochs
        if not complete:
            saver.save_interrupted(state, sums)
    finally:
        progress.close()
        try:
            writer.close()
        except BaseException:
            complete = False  # the last epoch could not be saved
            raise
        finally:
            report.finish(complete=complete)
    if not complete:
        _say("stopped; the same command resumes")
        return interrupt.exit_code
    _say_result(workdir, record)
    return 0


def _initial_model(settings: ConfigDict, point: ResumePoint | None) -> Predictor | None:
    path = settings.train.initial_model
    return Predictor.open(path) if path and point is None else None


def _run_info(
    settings: ConfigDict,
    name: str,
    command: str,
    chosen: jax.Device,
    state: TrainState,
    dataset: data.Dataset,
) -> RunInfo:
    return RunInfo(
        title=name,
        command=command,
        started=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        device=device.describe(chosen),
        platform=platform.platform(),
        versions=installed_versions(),
        parameters=states.parameter_count(state.params),
        epochs=settings.train.epochs,
        dataset=dataset.info.name,
        n_train=len(dataset.train.labels),
        n_eval=len(dataset.evaluation.labels),
        eval_name=dataset.eval_name,
        batch_size=settings.train.batch_size,
        seed=settings.seed,
        dtype=settings.model.dtype,
    )


def _continued(
    point: ResumePoint, settings: ConfigDict, step: int, compile_seconds: float
) -> RunRecord:
    """The record of a run that goes on, with what was changed."""
    before = point.record
    changes = (f"from step {step} on {change}" for change in point.changes)
    run_info = dataclasses.replace(
        before.run,
        epochs=settings.train.epochs,
        dtype=settings.model.dtype,
        changes=(*before.run.changes, *changes),
    )
    return dataclasses.replace(
        before,
        model={**before.model, "dtype": settings.model.dtype},
        config=config.to_json(settings),
        run=run_info,
        compile_seconds=before.compile_seconds + compile_seconds,
    )


def _say(line: str) -> None:
    print(line, flush=True)


def _say_result(workdir: Path, record: RunRecord) -> None:
    history: list[EpochRecord] = record.history
    last, best = history[-1], best_epoch(history)
    assert best is not None
    eval_name = record.run.eval_name
    _say(
        f"done: last epoch {100 * last['val_top1']:.2f} % top-1 on {eval_name}, best "
        f"{100 * best['val_top1']:.2f} % (epoch {best['epoch']}, selected on "
        f"{eval_name}); see {workdir / 'log.md'}\n"
        f"evaluate it with: python -m jax_resnet.evaluate --workdir {workdir}"
    )


if __name__ == "__main__":
    run(main)
