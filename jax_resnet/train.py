"""Trains a model: ``python -m jax_resnet.train --config configs/resnet56.py``."""

import dataclasses
import datetime
import platform
import shlex
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from jax_resnet import checkpoint, config, data, device, model, optimizer
from jax_resnet import state as states
from jax_resnet.command import Parser, run
from jax_resnet.errors import UserError
from jax_resnet.history import EpochRecord, RunInfo, best_epoch, installed_versions
from jax_resnet.interrupt import Interrupt
from jax_resnet.loop import Clock, Loop, Work
from jax_resnet.programs import Programs
from jax_resnet.progress import Progress
from jax_resnet.report import Report, is_complete
from jax_resnet.resume import Saver, restore, resume_point
from jax_resnet.state import TrainState
from jax_resnet.steps import Sums
from jax_resnet.workdir import claimed

# Fields that change where and how fast a run is computed, but not what.
FREE_FIELDS = (
    "data.dir",
    "data.cache_dir",
    "train.device",
    "train.eval_batch_size",
    "train.steps_per_call",
    "train.compilation_cache",
    "checkpoint.keep_latest",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = Parser(
        prog="python -m jax_resnet.train",
        description="Trains a model, or resumes the unfinished run in the workdir.",
        epilog="Fields of the config are set by name, as in --config.train.epochs=30",
    )
    parser.add_argument("--config", required=True, help="such as configs/resnet56.py")
    parser.add_argument("--workdir", help="run directory; default runs/NAME_OF_CONFIG")
    arguments = sys.argv[1:] if arguments is None else arguments
    options, overrides = parser.parse_known_args(arguments)
    settings = config.load(options.config, overrides)
    name = Path(options.config).stem
    workdir = Path(options.workdir or Path("runs") / name)
    # Without the workdir: the record lies in it, and stays true where it is moved.
    command = shlex.join(
        ["python", "-m", "jax_resnet.train", "--config", options.config, *overrides]
    )
    with Interrupt() as interrupt, claimed(workdir):
        return train(settings, workdir, name, command, interrupt)


def train(
    settings: ConfigDict, workdir: Path, name: str, command: str, interrupt: Interrupt
) -> int:
    """Trains to the last epoch, from the start or from the latest checkpoint.

    Args:
        settings: a config, from :func:`config.load`.
        workdir: the run directory.
        name: of the run.
        command: that started it.
        interrupt: noticed between steps.

    Returns:
        The exit code.

    Raises:
        UserError: if the user must change something.
    """
    for note in checkpoint.set_aside_damaged(workdir):
        print(f"warning: {note}", flush=True)
    as_json = config.to_json(settings)
    point = resume_point(workdir, as_json, FREE_FIELDS)
    if point is not None and is_complete(workdir):
        _say(f"{name} in {workdir} is complete")
        _say_result(workdir, point[1]["history"], point[1]["run"]["eval_name"])
        return 0
    chosen = device.select(settings.train.device)
    device.cache_compilations(settings.train.compilation_cache, chosen)
    _say(f"{name}: training on {device.describe(chosen)}")
    if chosen.platform == "cpu" and settings.train.device == "auto":
        _say("No GPU was found; the CPU is far slower.")

    init_key, order_key, step_key = jax.random.split(jax.random.key(settings.seed), 3)
    with ThreadPoolExecutor(1) as background:
        described = data.describe(**_data_settings(settings))
        loading = background.submit(data.load, **_data_settings(settings))
        info = described.info or loading.result().info
        steps_per_epoch = _steps_per_epoch(settings, described.n_train)
        schedule, sgd = _optimizer(settings, steps_per_epoch)
        architecture = {
            **settings.model.to_dict(),
            "num_classes": info.num_classes,
            "in_channels": info.image_shape[-1],
        }
        graphdef, state = states.create(model.initialize(init_key, **architecture), sgd)
        programs = Programs(
            graphdef,
            sgd,
            info=info,
            recipe=settings.augment.recipe,
            augment_settings=_augment_settings(settings),
            n_train=described.n_train,
            n_eval=described.n_eval,
            batch_size=settings.train.batch_size,
            eval_batch_size=settings.train.eval_batch_size,
            loop_on_device=chosen.platform != "cpu",
        )
        compile_seconds = programs.compile(state)
        dataset = loading.result()
    parameters = states.parameter_count(state.params)
    _say(
        f"{info.name}: {described.n_train:,} training images, {described.n_eval:,} of "
        f"{dataset.eval_name} for validation; {parameters:,} parameters; compiled in "
        f"{compile_seconds:.1f} s"
    )

    sums, clock = Sums.zeros(), Clock()
    history: list[EpochRecord] = []
    run_info = RunInfo(
        title=name,
        command=command,
        started=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        device=device.describe(chosen),
        platform=platform.platform(),
        versions=installed_versions(),
        parameters=parameters,
        epochs=settings.train.epochs,
        dataset=info.name,
        n_train=described.n_train,
        n_eval=described.n_eval,
        eval_name=dataset.eval_name,
        batch_size=settings.train.batch_size,
        seed=settings.seed,
        dtype=settings.model.dtype,
    )
    if point is not None:
        state, sums = restore(point, state, sums)
        metadata = point[1]
        history, clock = metadata["history"], Clock(**metadata["clock"])
        run_info = RunInfo(**metadata["run"])
        compile_seconds += metadata["compile_seconds"]
        _say(f"resuming at step {int(state.step)}, {len(history)} epochs done")

    report = Report(workdir, run_info, history, as_json)
    writer = checkpoint.Writer(workdir, keep_latest=settings.checkpoint.keep_latest)
    saver = Saver(
        writer,
        clock=clock,
        history=history,
        metadata={
            "model": architecture,
            "dataset": dataclasses.asdict(info),
            "config": as_json,
            "run": dataclasses.asdict(run_info),
            "compile_seconds": compile_seconds,
        },
    )
    progress = Progress(
        first_step=int(state.step),
        total_steps=settings.train.epochs * steps_per_epoch,
        steps_per_epoch=steps_per_epoch,
        batch_size=settings.train.batch_size,
        estimate_aloud=chosen.platform == "cpu",
    )

    def finish_epoch(state: TrainState) -> None:
        report.add(history[-1])
        saver.save_epoch(state)

    last_steps = jnp.arange(1, settings.train.epochs + 1) * steps_per_epoch - 1
    loop = Loop(
        Work(
            train_step=programs.train_step,
            eval_step=programs.eval_step,
            epoch_order=programs.epoch_order,
            order_key=order_key,
            step_key=step_key,
            train_split=programs.place_train(dataset.train),
            eval_split=programs.place_eval(dataset.evaluation),
            epochs=settings.train.epochs,
            steps_per_epoch=steps_per_epoch,
            eval_steps=programs.eval_steps,
            batch_size=settings.train.batch_size,
            learning_rates=np.asarray(schedule(last_steps)).tolist(),
            steps_per_call=settings.train.steps_per_call,
        ),
        history=history,
        clock=clock,
        progress=progress,
        interrupt=interrupt,
        on_epoch=finish_epoch,
    )
    interrupt.begin()
    complete = False  # also when the last epoch cannot be saved
    try:
        state, sums = loop.run(state, sums)
        complete = len(history) == settings.train.epochs
        if not complete:
            saver.save_interrupted(state, sums)
    finally:
        progress.close()
        writer.close()
        report.finish(
            complete=complete,
            wall_seconds=clock.wall,
            compile_seconds=compile_seconds,
        )
    if not complete:
        _say("stopped; the same command resumes")
        return interrupt.exit_code
    _say_result(workdir, history, dataset.eval_name)
    return 0


def _data_settings(settings: ConfigDict) -> dict[str, Any]:
    return {
        "name": settings.data.name,
        "data_dir": settings.data.dir or None,
        "cache_dir": settings.data.cache_dir or None,
        "train_split": settings.data.train_split,
        "eval_split": settings.data.eval_split,
        "holdout": settings.data.holdout,
    }


def _augment_settings(settings: ConfigDict) -> dict[str, dict[str, Any]]:
    groups = {n: g for n, g in settings.augment.items() if n != "recipe"}
    for name, group in groups.items():
        if not isinstance(group, ConfigDict):
            raise UserError(f"augment.{name} must be a group of settings")
    return {name: group.to_dict() for name, group in groups.items()}


def _steps_per_epoch(settings: ConfigDict, n_train: int) -> int:
    if settings.train.batch_size > n_train:
        raise UserError(
            f"train.batch_size is {settings.train.batch_size}, and there are only "
            f"{n_train} training images"
        )
    return n_train // settings.train.batch_size


def _optimizer(
    settings: ConfigDict, steps_per_epoch: int
) -> tuple[optax.Schedule, optax.GradientTransformation]:
    options = settings.optimizer
    schedule = optimizer.cosine_schedule(
        options.learning_rate,
        total_steps=settings.train.epochs * steps_per_epoch,
        warmup_steps=round(options.warmup_epochs * steps_per_epoch),
    )
    return schedule, optimizer.sgd(
        schedule,
        momentum=options.momentum,
        nesterov=options.nesterov,
        weight_decay=options.weight_decay,
        weight_decay_on=options.weight_decay_on,
    )


def _say(line: str) -> None:
    print(line, flush=True)


def _say_result(workdir: Path, history: list[EpochRecord], eval_name: str) -> None:
    last, best = history[-1], best_epoch(history)
    assert best is not None
    _say(
        f"done: last epoch {100 * last['val_top1']:.2f} % top-1 on {eval_name}, best "
        f"{100 * best['val_top1']:.2f} % (epoch {best['epoch']}, selected on "
        f"{eval_name}); see {workdir / 'log.md'}\n"
        f"evaluate it with: python -m jax_resnet.evaluate --workdir {workdir}"
    )


if __name__ == "__main__":
    run(main)
