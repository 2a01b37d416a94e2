"""Images per second of an evaluation's forward pass, beside PyTorch's.

    python benchmarks/evaluation.py

Random weights and random images: neither changes how long it takes.
"""

import argparse
import importlib.util
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

import arguments as common
import jax
import numpy as np
import tables
from jax_variants import build
from step_changes import BASELINE, CHANGES
from variant import TRAIN_IMAGES, Options, random_info, random_split

from jax_resnet import data
from jax_resnet.checkpoint.history import installed_versions
from jax_resnet.checkpoint.metadata import Architecture, RunMetadata
from jax_resnet.checkpoint.model_folder import StoredModel
from jax_resnet.distributed.device import describe
from jax_resnet.distributed.device import select as select_device
from jax_resnet.formats.imported import imported_metadata
from jax_resnet.model import resnet
from jax_resnet.model.weights import split, to_arrays
from jax_resnet.predictor import Predictor
from jax_resnet.runtime.command_line import Parser, run
from jax_resnet.runtime.errors import UserError
from jax_resnet.training.metrics import RunningMetrics

CLASSES = 100
TEST_IMAGES = 10_000  # of CIFAR-100
Dtype = Literal["float32", "bfloat16"]
Classify = Callable[[np.ndarray], np.ndarray | None]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns 0."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    chosen = _parse(arguments)
    load = os.getloadavg()[0]
    device = select_device(chosen.device)
    on_gpu = device.platform != "cpu"
    variants = _variants(chosen, on_gpu)
    shape = (chosen.images, 32, 32, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    expected = None
    warm_up: dict[str, float] = {}
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for name, classify in variants.items():
        begun = time.perf_counter()
        logits = classify(images)
        warm_up[name] = time.perf_counter() - begun
        if logits is None:
            continue
        expected = logits if expected is None else expected
        # A GPU rounds the factors of float32 products to TF32.
        tolerance = 0.2 if chosen.dtype == "bfloat16" else 0.05 if on_gpu else 0.01
        largest = np.abs(expected).max()
        np.testing.assert_allclose(logits, expected, rtol=0, atol=tolerance * largest)
    versions = installed_versions()
    if any("PyTorch" in name for name in variants):
        import torch

        versions["torch"] = torch.__version__
    work = (
        f"Work: {chosen.images:,} uint8 images, ResNet-{chosen.depth}, {chosen.dtype}, "
        f"on {describe(device)}; to logits on the host, or, as train.py evaluates, "
        "from images on the device to the sums of the metrics",
        f"Median (least to greatest) of {chosen.rounds} rounds of {chosen.images:,} "
        "images, variants in turns, after one that is not counted",
    )
    heading = tables.heading(
        "evaluation.py",
        arguments,
        work,
        load=load,
        versions=versions,
        gpu=device.device_kind if on_gpu else "",
    )
    report = ""
    for _ in range(chosen.rounds):
        for name, classify in variants.items():
            begun = time.perf_counter()
            classify(images)
            seconds[name].append(time.perf_counter() - begun)
        report = f"{heading}\n\n{_table(seconds, warm_up, chosen.images)}\n"
        tables.write(report, chosen.output)
    print(report, end="", flush=True)
    return 0


def _table(
    seconds: Mapping[str, Sequence[float]], warm_up: Mapping[str, float], images: int
) -> str:
    rows = [
        [
            name,
            tables.spread([images / s for s in rounds], 0),
            tables.spread([TEST_IMAGES * s / images for s in rounds], 2),
            f"{warm_up[name]:.1f}",
        ]
        for name, rounds in seconds.items()
    ]
    columns = ["variant", "images/s", f"s for {TEST_IMAGES:,} images", "first call, s"]
    return tables.table(columns, rows)


def _variants(chosen: argparse.Namespace, on_gpu: bool) -> dict[str, Classify]:
    metadata, arrays = _random_model(chosen.depth, chosen.dtype)
    variants: dict[str, Classify] = {}
    predictor = None
    for size in chosen.batch_sizes:
        predictor = Predictor(StoredModel(metadata, arrays, step=0), batch_size=size)
        variants[f"jax_resnet, batches of {size}"] = predictor.logits
        name = f"jax_resnet, as train.py evaluates, batches of {size}"
        variants[name] = _resident(chosen, size, on_gpu)
    if predictor and importlib.util.find_spec("torch"):
        for size in chosen.batch_sizes:
            for nhwc in (False, True):
                name = f"PyTorch, eager{', channels_last' * nhwc}, batches of {size}"
                variants[name] = _torch(predictor, size, nhwc, chosen.device)
    return variants


def _resident(chosen: argparse.Namespace, size: int, on_gpu: bool) -> Classify:
    """Evaluates images of its own, which are on the device."""
    images, labels = (part[: chosen.images] for part in random_split())
    options = Options(
        device="gpu" if on_gpu else "cpu",
        depth=chosen.depth,
        batch_size=128,
        dtype=chosen.dtype,
        augment="none",
    )
    evaluation = data.Split(images, labels)
    steps, state = build(options, CHANGES[BASELINE], evaluation, size)
    pipeline = steps.pipeline

    def classify(_: np.ndarray) -> None:
        carry = pipeline.devices.place((np.int32(0), RunningMetrics.zeros()))
        constants = (*pipeline.eval_chunk.arrays, state.weights)
        count = pipeline.sizes.eval_steps
        jax.block_until_ready(steps.evaluate(carry, count, *constants))

    return classify


def _random_model(
    depth: int, dtype: Dtype
) -> tuple[RunMetadata, dict[str, np.ndarray]]:
    info = random_info()
    architecture = Architecture(
        depth=depth,
        width=1,
        shortcut="projection",
        dtype=dtype,
        num_classes=CLASSES,
        in_channels=3,
    )
    _, params, batch_stats = split(resnet.initialize(jax.random.key(0), **architecture))
    arrays = to_arrays({"state": {"params": params, "batch_stats": batch_stats}})
    return imported_metadata(
        architecture, arrays, info, title="random", command=""
    ), arrays


def _torch(predictor: Predictor, size: int, nhwc: bool, device: str) -> Classify:
    import torch
    from torch_resnet import ResNet, state_dict

    place = "cpu" if device == "cpu" or not torch.cuda.is_available() else "cuda"
    layout = torch.channels_last if nhwc else torch.contiguous_format
    info = predictor.info
    network = ResNet(predictor.metadata.model["depth"], CLASSES).eval()
    network.load_state_dict(state_dict(predictor.params, predictor.batch_stats))
    dtype = getattr(torch, predictor.metadata.model["dtype"])
    network = network.to(place, dtype, memory_format=layout)
    mean, std = (
        torch.tensor(v, device=place).view(1, -1, 1, 1) for v in (info.mean, info.std)
    )

    @torch.inference_mode()
    def classify(images: np.ndarray) -> np.ndarray:
        outputs = []
        for batch in np.array_split(images, -(-len(images) // size)):
            pixels = torch.from_numpy(batch).to(place).permute(0, 3, 1, 2) / 255
            inputs = ((pixels - mean) / std).contiguous(memory_format=layout)
            outputs.append(network(inputs.to(dtype)).float())
        return torch.cat(outputs).cpu().numpy()

    return classify


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        prog="python benchmarks/evaluation.py",
        description="Measures how fast a model evaluates, beside PyTorch.",
    )
    parser.add_argument("--depth", type=int, default=56, help="default 56")
    parser.add_argument("--images", type=int, default=2000, help="default 2000")
    parser.add_argument("--rounds", type=int, default=3, help="default 3")
    parser.add_argument(
        "--batch-sizes", type=int, nargs="+", default=[32, 500], help="default 32 500"
    )
    parser.add_argument("--device", default="auto", help="auto, gpu or cpu")
    dtypes = get_args(Dtype)
    parser.add_argument("--dtype", choices=dtypes, default="float32")
    common.add_output(parser)
    chosen = parser.parse_args(arguments)
    common.check_output(chosen)
    if chosen.images > TRAIN_IMAGES:
        raise UserError(f"--images must be at most {TRAIN_IMAGES}")
    if min(chosen.images, chosen.rounds, *chosen.batch_sizes) < 1:
        raise UserError("--images, --rounds and --batch-sizes must be at least 1")
    return chosen


if __name__ == "__main__":
    run(main)
