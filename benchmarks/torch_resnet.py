"""The same network in PyTorch: the peer that tests and benchmarks compare with.

Its modules have torchvision's names, as those of pytorch-cifar-models have.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from jax_resnet.formats.pytorch_names import to_torch


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, projected where the shape changes."""

    def __init__(self, in_features: int, features: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_features, features, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(features)
        self.conv2 = nn.Conv2d(features, features, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(features)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = (
            None
            if stride == 1 and in_features == features
            else nn.Sequential(
                nn.Conv2d(in_features, features, 1, stride, bias=False),
                nn.BatchNorm2d(features),
            )
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps ``[n, c, h, w]`` to ``[n, features, h/stride, w/stride]``."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + shortcut)


class ResNet(nn.Module):
    """ResNet of depth 6n+2 for small images, with projection shortcuts."""

    def __init__(self, depth: int = 56, num_classes: int = 100):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        features = 16
        layers = []
        for stage in range(3):
            blocks = []
            for index in range((depth - 2) // 6):
                in_features, features = features, 16 * 2**stage
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(BasicBlock(in_features, features, stride))
            layers.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3 = layers
        self.fc = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps ``[n, 3, h, w]`` to logits ``[n, num_classes]``."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


def state_dict(
    params: Mapping[str, np.ndarray], batch_stats: Mapping[str, np.ndarray]
) -> dict[str, torch.Tensor]:
    """The parameters and statistics of jax_resnet, as they are exported for PyTorch."""
    arrays = {
        name: np.asarray(array) for name, array in {**params, **batch_stats}.items()
    }
    tensors = to_torch(arrays, step=0)
    return {name: torch.from_numpy(array.copy()) for name, array in tensors.items()}
