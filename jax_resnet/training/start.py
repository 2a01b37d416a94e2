"""Starts or resumes a run: builds and compiles it, and loads its images."""

import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import jax
from ml_collections import ConfigDict

from jax_resnet import config, data
from jax_resnet.checkpoint.metadata import RunMetadata
from jax_resnet.distributed import device
from jax_resnet.distributed.mesh import DeviceMesh
from jax_resnet.distributed.processes import Processes
from jax_resnet.model.weights import parameter_count
from jax_resnet.reporting.augmentations import draw_augmentations
from jax_resnet.reporting.progress import Progress
from jax_resnet.runtime.jax_settings import fixed_settings
from jax_resnet.runtime.memory import HUGE_PAGES, lacks_huge_pages
from jax_resnet.training.build import RunBuilder, describe_data
from jax_resnet.training.compiled import CompiledSteps
from jax_resnet.training.input_pipeline import InputPipeline
from jax_resnet.training.metrics import RunningMetrics
from jax_resnet.training.preview import choose, preview
from jax_resnet.training.resume import ResumePoint
from jax_resnet.training.run_metadata import new_metadata, resumed_metadata
from jax_resnet.training.state import TrainState
from jax_resnet.training.task import Say, Task


@dataclass(frozen=True)
class StartedRun:
    """A run whose steps are compiled and whose images are loaded."""

    settings: ConfigDict  # the config, with a dtype that is not ``"auto"``
    learning_rates: list[float]  # learning rate of each epoch's last step
    steps: CompiledSteps
    # the state and the metrics of the unfinished epoch, on the devices
    carry: tuple[TrainState, RunningMetrics]
    metadata: RunMetadata  # the metadata so far
    draw_preview: Callable[[], bytes]  # draws ``augmentations.png``
    progress: Progress  # shown to people


def start_run(
    task: Task,
    processes: Processes,
    devices: DeviceMesh,
    point: ResumePoint | None,
    say: Say,
) -> StartedRun:
    """Builds and compiles a run while its images are decoded, and loads them.

    The point is where to resume; None starts a new run. Raises UserError if the user
    must change something.
    """
    say(f"{task.name}: training on {devices.describe()}")
    if devices.first.platform == "cpu":
        _advise_on_a_cpu(task, say)
    dtype = point and point.metadata.model["dtype"]
    fastest = device.fastest_dtype(devices.first)
    settings = config.with_dtype(task.settings, dtype or fastest)
    device.cache_compilations(settings.train.compilation_cache, devices.first)

    key = jax.random.key(settings.seed - jax.config.jax_random_seed_offset)
    init_key, order_key, step_key = jax.random.split(key, 3)
    with processes.all_or_none() as must_match, ThreadPoolExecutor(1) as background:
        described = describe_data(settings)
        loading = background.submit(described.load)
        resumed = point.metadata.dataset if point else None
        builder = RunBuilder(settings, devices, described, resumed)
        steps, state = builder.build(init_key)
        carry, seconds = _compiled(builder, steps, state, point)
        dataset = replace(loading.result(), info=builder.info)
        if processes.count > 1:
            must_match["data"] = zlib.crc32(dataset.train.images.data)
    say(
        f"{described.info.name}: {described.n_train:,} training images, "
        f"{described.n_eval:,} of {dataset.eval_name} for validation; "
        f"{parameter_count(carry[0].params):,} parameters; compiled in "
        f"{seconds:.1f} s"
    )
    metadata = _metadata(task, builder, dataset, carry[0], point, say)
    metadata = replace(metadata, compile_seconds=steps.compile_seconds)
    steps.pipeline.load(dataset, order_key, step_key)
    speak = task.say if processes.is_first else say
    progress = _progress(builder, steps.pipeline, carry[0], speak)
    return StartedRun(
        settings,
        builder.learning_rates(),
        steps,
        carry,
        metadata,
        partial(_draw_preview, steps, choose(dataset.train), dataset.info, step_key),
        progress,
    )


def _advise_on_a_cpu(task: Task, say: Say) -> None:
    if task.settings.train.device == "auto":
        say("No GPU was found; the CPU is far slower.")
    if lacks_huge_pages():
        say(f"With {HUGE_PAGES} in the environment it trains faster.")


@fixed_settings()
def _draw_preview(
    steps: CompiledSteps, chosen: data.Split, info: data.DatasetInfo, key: jax.Array
) -> bytes:
    """Draws training images as stored, and as the network sees them in the end."""
    loss = steps.loss.at_size(steps.image_sizes[0])
    with jax.default_device(steps.pipeline.devices.first):
        views = preview(loss, chosen, info, key)
    return draw_augmentations(views)


def _compiled(
    builder: RunBuilder,
    steps: CompiledSteps,
    state: TrainState,
    point: ResumePoint | None,
) -> tuple[tuple[TrainState, RunningMetrics], float]:
    """Compiles the steps; returns their first carry and the seconds spent."""
    place = builder.devices.place
    metrics = place(RunningMetrics.zeros())
    if point is None:
        state, epoch = place(builder.with_initial_model(state)), 0
    else:
        state, epoch = place(state), len(point.metadata.history)
        steps.compile_seconds = point.metadata.compile_seconds
    before = steps.compile_seconds
    # All epochs may be done already, with an accepted change.
    steps.compile(state, min(epoch, builder.settings.train.epochs - 1))
    seconds = steps.compile_seconds - before
    if point is not None:
        state, metrics = place(point.restore(state, metrics))
    return (state, metrics), seconds


def _metadata(
    task: Task,
    builder: RunBuilder,
    dataset: data.Dataset,
    state: TrainState,
    point: ResumePoint | None,
    say: Say,
) -> RunMetadata:
    """Returns new or resumed metadata, and announces which."""
    if point is not None:
        metadata = resumed_metadata(point, builder)
        say(f"resuming at step {int(state.step)}, {len(metadata.history)} epochs done")
        return metadata
    metadata = new_metadata(task, builder, dataset, parameter_count(state.params))
    if metadata.run.initial_model:
        say(f"starting from the weights of {metadata.run.initial_model}")
    return metadata


def _progress(
    builder: RunBuilder, pipeline: InputPipeline, state: TrainState, say: Say | None
) -> Progress:
    sizes = pipeline.sizes
    return Progress(
        first_step=int(state.step),
        total_steps=builder.settings.train.epochs * sizes.steps_per_epoch,
        steps_per_epoch=sizes.steps_per_epoch,
        batch_size=sizes.train,
        say=say,
    )
