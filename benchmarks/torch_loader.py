"""The throughput benchmark's PyTorch as most people run it: DataLoader, torchvision."""

import importlib.metadata
import os
from collections.abc import Iterator
from typing import Any

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torch_variants import Training
from variant import (
    Options,
    SkippedError,
    normalization,
    random_split,
    reference_augmentation,
)

Batch = tuple[torch.Tensor, torch.Tensor]
_ENDLESS = 2**40  # images that the sampler draws before it stops


class LoaderTraining(Training):
    """Eager training steps on batches from a DataLoader.

    Args:
        options: the work.
        alone: fetch the batches, and train on none.
    """

    def __init__(self, options: Options, *, alone: bool = False):
        super().__init__(options, channels_last=False)
        self._alone = alone
        dataset = _Images(_transforms(options))
        self.versions["torchvision"] = importlib.metadata.version("torchvision")
        self._loader = DataLoader(
            dataset,
            options.batch_size,
            sampler=RandomSampler(dataset, replacement=True, num_samples=_ENDLESS),
            num_workers=min(8, len(os.sched_getaffinity(0))),
            pin_memory=self._on_gpu,
        )
        self._batches: Iterator[Batch] | None = None

    def _step(self) -> None:
        if self._batches is None:
            self._batches = iter(self._loader)
        images, labels = next(self._batches)
        images = images.to(self._device, non_blocking=True)
        labels = labels.to(self._device, non_blocking=True)
        if not self._alone:
            self._train(self._losses, images, labels)

    def pause(self) -> None:
        """Ends the loader's processes, which would go on and fetch ahead."""
        self._batches = None


class _Images(Dataset):
    def __init__(self, transform: Any):
        self._images, labels = random_split()
        self._labels = labels.tolist()
        self._transform = transform

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = self._transform(Image.fromarray(self._images[index]))
        return image, self._labels[index]


class _Cutout:
    def __init__(self, size: int):
        self._size = size

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        _, height, width = image.shape
        top = int(torch.randint(height, ())) - self._size // 2
        left = int(torch.randint(width, ())) - self._size // 2
        rows = slice(max(top, 0), max(top + self._size, 0))
        image[:, rows, max(left, 0) : max(left + self._size, 0)] = 0
        return image


def _transforms(options: Options) -> Any:
    try:
        from torchvision import transforms
    except ImportError:
        raise SkippedError("torchvision is not installed") from None
    recipe, settings = reference_augmentation(options)
    to_inputs = [transforms.ToTensor(), transforms.Normalize(*normalization())]
    if recipe == ["normalize"]:
        return transforms.Compose(to_inputs)
    erasing = settings["random_erasing"]
    return transforms.Compose(
        [
            transforms.RandomCrop(32, padding=settings["random_crop"]["padding"]),
            transforms.RandomHorizontalFlip(settings["random_flip"]["probability"]),
            transforms.RandomRotation(settings["random_rotation"]["degrees"]),
            transforms.ColorJitter(**settings["color_jitter"]),
            *to_inputs,
            transforms.RandomErasing(
                erasing["probability"], erasing["area"], erasing["aspect"]
            ),
            _Cutout(settings["cutout"]["size"]),
        ]
    )
