"""The network as an ONNX graph.

Each BatchNorm is folded into the convolution before it, in float64. The graph takes
uint8 images [batch, height, width, channels] and normalises them itself.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from jax_resnet.data import DatasetInfo

# Runtimes from 2022 on read these.
OPSET, IR_VERSION = 17, 8
EPSILON = 1e-5  # of BatchNorm, as in jax_resnet.model.resnet


def build(
    arrays: Mapping[str, np.ndarray],
    info: DatasetInfo,
    *,
    depth: int,
    temperature: float,
) -> onnx.ModelProto:
    """Builds the graph, which computes in float32, from arrays by dotted name."""
    graph = _Graph(arrays)
    x = graph.normalization("images", info)
    x = graph.add("Relu", "stem.relu", graph.convolution("stem", x, 1))
    blocks_per_stage = (depth - 2) // 6
    for index in range(3 * blocks_per_stage):
        first = index > 0 and index % blocks_per_stage == 0
        x = graph.block(f"blocks.{index}", x, stride=2 if first else 1)
    graph.head("probabilities", x, temperature)

    def value(name: str, kind: int, *shape: str | int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, shape)

    return helper.make_model(
        helper.make_graph(
            graph.nodes,
            "jax_resnet",
            [value("images", TensorProto.UINT8, "batch", *info.image_shape)],
            [value("probabilities", TensorProto.FLOAT, "batch", info.num_classes)],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="jax_resnet",
    )


class _Graph:
    """Collects nodes and constants. A node's only output has the node's name."""

    def __init__(self, arrays: Mapping[str, np.ndarray]):
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._arrays = arrays

    def constant(self, name: str, value: Any, dtype: type = np.float32) -> str:
        """Adds a constant, and returns its name."""
        array: np.ndarray = np.array(value, dtype, order="C")
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def add(self, kind: str, name: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node, and returns its name."""
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def normalization(self, images: str, info: DatasetInfo) -> str:
        """Adds the normalisation, and the transposition to channels first."""
        x = self.add("Cast", "float_images", images, to=TensorProto.FLOAT)
        mean = self.constant("mean", 255 * np.array(info.mean))
        std = self.constant("std", 255 * np.array(info.std))
        x = self.add("Div", "normalized", self.add("Sub", "centred", x, mean), std)
        return self.add("Transpose", "channels_first", x, perm=[0, 3, 1, 2])

    def convolution(self, name: str, x: str, stride: int) -> str:
        """Adds a convolution with the BatchNorm after it."""
        kernel = self._arrays[f"{name}.conv.kernel"].astype(np.float64)
        scale, bias, mean, var = (
            self._arrays[f"{name}.norm.{leaf}"].astype(np.float64)
            for leaf in ("scale", "bias", "mean", "var")
        )
        factor = scale / np.sqrt(var + EPSILON)
        weight = (kernel * factor).transpose(3, 2, 0, 1)
        size = kernel.shape[0]
        return self.add(
            "Conv",
            name,
            x,
            self.constant(f"{name}.weight", weight),
            self.constant(f"{name}.bias", bias - mean * factor),
            kernel_shape=[size, size],
            strides=[stride, stride],
            pads=[size // 2] * 4,
        )

    def block(self, name: str, x: str, *, stride: int) -> str:
        """Adds a basic block, with a projection if there are weights for one."""
        y = self.convolution(f"{name}.conv1", x, stride)
        y = self.add("Relu", f"{name}.relu", y)
        y = self.convolution(f"{name}.conv2", y, 1)
        if f"{name}.projection.conv.kernel" in self._arrays:
            x = self.convolution(f"{name}.projection", x, stride)
        elif stride != 1:
            # Option A of He et al.: every second pixel, and channels of zeros.
            x = self.add(
                *("MaxPool", f"{name}.subsampled", x),
                kernel_shape=[1, 1],
                strides=[stride, stride],
            )
            inputs, outputs = self._arrays[f"{name}.conv1.conv.kernel"].shape[2:]
            missing = [0, 0, 0, 0, 0, outputs - inputs, 0, 0]
            pads = self.constant(f"{name}.pads", missing, np.int64)
            x = self.add("Pad", f"{name}.padded", x, pads)
        return self.add("Relu", name, self.add("Add", f"{name}.sum", y, x))

    def head(self, name: str, x: str, temperature: float) -> None:
        """Adds pooling, the last layer and the softmax."""
        x = self.add("Flatten", "features", self.add("GlobalAveragePool", "pooled", x))
        weight = self.constant("head.weight", self._arrays["head.kernel"])
        bias = self.constant("head.bias", self._arrays["head.bias"])
        logits = self.add("Gemm", "logits", x, weight, bias)
        divisor = self.constant("temperature", temperature)
        self.add("Softmax", name, self.add("Div", "scaled", logits, divisor), axis=1)
