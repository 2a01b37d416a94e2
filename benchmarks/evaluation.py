"""Images per second of an evaluation's forward pass, beside PyTorch's.

    python benchmarks/evaluation.py

Random weights and random images: neither changes how long it takes.
"""

import argparse
import importlib.util
import os
import sys
import time
from collections.abc import Callable, Sequence

import jax
import numpy as np
import tables

from jax_resnet import data, model, state
from jax_resnet.command import Parser, run
from jax_resnet.device import describe
from jax_resnet.device import select as select_device
from jax_resnet.errors import UserError
from jax_resnet.formats.imported import record_of
from jax_resnet.history import installed_versions
from jax_resnet.predict import Predictor
from jax_resnet.record import Architecture, RunRecord

CLASSES = 100
TEST_IMAGES = 10_000  # of CIFAR-100
Classify = Callable[[np.ndarray], np.ndarray]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns 0."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    chosen = _parse(arguments)
    load = os.getloadavg()[0]
    device = select_device(chosen.device, "--device")
    variants = _variants(chosen)
    shape = (chosen.images, 32, 32, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    expected = None
    warm_up: dict[str, float] = {}
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for name, classify in variants.items():
        begun = time.perf_counter()
        logits = classify(images)
        warm_up[name] = time.perf_counter() - begun
        expected = logits if expected is None else expected
        np.testing.assert_allclose(logits, expected, rtol=1e-2, atol=1e-2)
    for _ in range(chosen.rounds):
        for name, classify in variants.items():
            begun = time.perf_counter()
            classify(images)
            seconds[name].append(time.perf_counter() - begun)
    work = (
        f"Work: uint8 images to logits, ResNet-{chosen.depth}, float32, on "
        f"{describe(device)}",
        f"Median (least to greatest) of {chosen.rounds} rounds of {chosen.images:,} "
        "images, variants in turns, after one that is not counted",
    )
    versions = installed_versions()
    if len(variants) > len(chosen.batch_sizes):
        import torch

        versions["torch"] = torch.__version__
    gpu = "" if device.platform == "cpu" else device.device_kind
    print(
        tables.heading(
            "evaluation.py", arguments, work, load=load, versions=versions, gpu=gpu
        )
    )
    rows = [
        [
            name,
            tables.spread([chosen.images / s for s in seconds[name]], 0),
            tables.spread([TEST_IMAGES * s / chosen.images for s in seconds[name]], 1),
            f"{warm_up[name]:.1f}",
        ]
        for name in variants
    ]
    columns = ["variant", "images/s", f"s for {TEST_IMAGES:,} images", "first call, s"]
    print("\n" + tables.table(columns, rows))
    return 0


def _variants(chosen: argparse.Namespace) -> dict[str, Classify]:
    record, arrays = _random_model(chosen.depth)
    variants: dict[str, Classify] = {}
    predictor = None
    for size in chosen.batch_sizes:
        predictor = Predictor(record, arrays, step=0, batch_size=size)
        variants[f"jax_resnet, batches of {size}"] = predictor.logits
    if predictor and importlib.util.find_spec("torch"):
        for size in chosen.batch_sizes:
            for nhwc in (False, True):
                name = f"PyTorch, eager{', channels_last' * nhwc}, batches of {size}"
                variants[name] = _torch(predictor, size, nhwc, chosen.device)
    return variants


def _random_model(depth: int) -> tuple[RunRecord, dict[str, np.ndarray]]:
    info = data.DatasetInfo(
        name="random",
        version="1.0.0",
        image_shape=(32, 32, 3),
        class_names=tuple(str(c) for c in range(CLASSES)),
        superclass_names=(),
        superclass_of=(),
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )
    architecture = Architecture(
        depth=depth,
        width=1,
        shortcut="projection",
        dtype="float32",
        num_classes=CLASSES,
        in_channels=3,
    )
    _, params, batch_stats = state.split(
        model.initialize(jax.random.key(0), **architecture)
    )
    arrays = state.to_arrays({"state": {"params": params, "batch_stats": batch_stats}})
    return record_of(architecture, arrays, info, title="random", command=""), arrays


def _torch(predictor: Predictor, size: int, nhwc: bool, device: str) -> Classify:
    import torch
    from torch_resnet import ResNet, state_dict

    place = "cpu" if device == "cpu" or not torch.cuda.is_available() else "cuda"
    layout = torch.channels_last if nhwc else torch.contiguous_format
    info = predictor.info
    network = ResNet(predictor.record.model["depth"], CLASSES).eval()
    network.load_state_dict(state_dict(predictor.params, predictor.batch_stats))
    network = network.to(place, memory_format=layout)
    mean, std = (
        torch.tensor(v, device=place).view(1, -1, 1, 1) for v in (info.mean, info.std)
    )

    @torch.inference_mode()
    def classify(images: np.ndarray) -> np.ndarray:
        outputs = []
        for batch in np.array_split(images, -(-len(images) // size)):
            pixels = torch.from_numpy(batch).to(place).permute(0, 3, 1, 2) / 255
            inputs = ((pixels - mean) / std).contiguous(memory_format=layout)
            outputs.append(network(inputs))
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
    chosen = parser.parse_args(arguments)
    if min(chosen.images, chosen.rounds, *chosen.batch_sizes) < 1:
        raise UserError("--images, --rounds and --batch-sizes must be at least 1")
    return chosen


if __name__ == "__main__":
    run(main)
