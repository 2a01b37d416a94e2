"""The network as an ONNX graph, from its arrays.

Each BatchNorm is folded into the convolution before it, in float64. The graph takes
images as people have them, uint8 [batch, height, width, channels], and normalises
them itself.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from jax_resnet.checkpoint.metadata import Architecture
from jax_resnet.data import DatasetInfo

# Runtimes from 2022 on read these.
OPSET, IR_VERSION = 17, 8
EPSILON = 1e-5  # of BatchNorm, as in jax_resnet.model.resnet
INPUT, OUTPUT, BATCH = "images", "probabilities", "batch"


class _Graph:
    """Nodes and constants, as they are added."""

    def __init__(self, arrays: Mapping[str, np.ndarray]):
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._arrays = arrays

    def constant(
        self, name: str, value: np.ndarray | list[int] | float, dtype: type = np.float32
    ) -> str:
        """Adds a constant, and returns its name."""
        array: np.ndarray = np.array(value, dtype, order="C")
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def add(self, kind: str, name: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node, and returns the name of its only output, which is its own."""
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

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

    def block(self, name: str, x: str, stride: int) -> str:
        """Adds a basic block, with whichever shortcut its arrays and shape ask for."""
        y = self.convolution(f"{name}.conv1", x, stride)
        y = self.add("Relu", f"{name}.relu", y)
        y = self.convolution(f"{name}.conv2", y, 1)
        in_features, features = self._arrays[f"{name}.conv1.conv.kernel"].shape[2:]
        if f"{name}.projection.conv.kernel" in self._arrays:
            x = self.convolution(f"{name}.projection", x, stride)
        elif stride != 1:
            x = self._subsample(name, x, stride, features - in_features)
        return self.add("Relu", name, self.add("Add", f"{name}.sum", y, x))

    def _subsample(self, name: str, x: str, stride: int, missing: int) -> str:
        """Adds a shortcut of option A: every second pixel, zero channels appended."""
        slices = {
            "starts": [0, 0],
            "ends": [np.iinfo(np.int64).max] * 2,
            "axes": [2, 3],
            "steps": [stride, stride],
        }
        bounds = (
            self.constant(f"{name}.{key}", value, np.int64)
            for key, value in slices.items()
        )
        x = self.add("Slice", f"{name}.subsampled", x, *bounds)
        pads = self.constant(f"{name}.pads", [0, 0, 0, 0, 0, missing, 0, 0], np.int64)
        return self.add("Pad", f"{name}.padded", x, pads)


def build(
    architecture: Architecture,
    arrays: Mapping[str, np.ndarray],
    info: DatasetInfo,
    *,
    temperature: float,
    metadata: Mapping[str, str],
) -> onnx.ModelProto:
    """Builds the graph.

    Args:
        architecture: which computes in float32 here, whatever its dtype.
        arrays: parameters and statistics by dotted name, such as ``head.kernel``.
        info: has the shape and normalisation of the images.
        temperature: that the logits are divided by.
        metadata: stored as the model's properties.
    """
    graph = _Graph(arrays)
    x = graph.add("Cast", "levels", INPUT, to=TensorProto.FLOAT)
    mean = graph.constant("mean", 255 * np.array(info.mean))
    std = graph.constant("std", 255 * np.array(info.std))
    x = graph.add("Sub", "centred", x, mean)
    x = graph.add("Div", "normalized", x, std)
    x = graph.add("Transpose", "channels_first", x, perm=[0, 3, 1, 2])
    x = graph.add("Relu", "stem.relu", graph.convolution("stem", x, 1))
    blocks_per_stage = (architecture["depth"] - 2) // 6
    for index in range(3 * blocks_per_stage):
        stage, within = divmod(index, blocks_per_stage)
        x = graph.block(f"blocks.{index}", x, 2 if stage > 0 and within == 0 else 1)
    x = graph.add("Flatten", "features", graph.add("GlobalAveragePool", "pooled", x))
    x = graph.add(
        "Gemm",
        "logits",
        x,
        graph.constant("head.weight", arrays["head.kernel"]),
        graph.constant("head.bias", arrays["head.bias"]),
    )
    scale = graph.constant("temperature", temperature)
    graph.add("Softmax", OUTPUT, graph.add("Div", "scaled_logits", x, scale), axis=1)

    def value(name: str, kind: int, *shape: str | int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, shape)

    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "jax_resnet",
            [value(INPUT, TensorProto.UINT8, BATCH, *info.image_shape)],
            [value(OUTPUT, TensorProto.FLOAT, BATCH, info.num_classes)],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="jax_resnet",
    )
    helper.set_model_props(model, dict(metadata))
    return model
