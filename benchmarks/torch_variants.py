"""The throughput benchmark's programs in PyTorch, from plain to its best."""

import platform
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from torch_augment import Augment, Normalize
from torch_resnet import ResNet
from variant import (
    NUM_CLASSES,
    TRAIN_IMAGES,
    WARM_UP_STEPS,
    Options,
    SkippedError,
    Variant,
    normalization,
    random_split,
    reference_augmentation,
)


class TorchVariant(Variant):
    """The device, and the split resident on it."""

    def __init__(self, options: Options):
        if options.device == "gpu" and not torch.cuda.is_available():
            raise SkippedError("this PyTorch finds no GPU")
        self._options = options
        self._on_gpu = options.device == "gpu"
        self._device = torch.device("cuda" if self._on_gpu else "cpu")
        self.versions = {
            "torch": torch.__version__,
            "python of torch": platform.python_version(),
        }
        if self._on_gpu:
            self.gpu = torch.cuda.get_device_name()
            self.versions["cuda of torch"] = str(torch.version.cuda)
            self.versions["cudnn of torch"] = str(torch.backends.cudnn.version())
            # As XLA does: the fastest algorithms, and float32 products in TF32.
            torch.backends.cudnn.benchmark = True
            torch.set_float32_matmul_precision("high")
        torch.manual_seed(0)
        images, labels = random_split()
        self._images = torch.from_numpy(images).to(self._device)
        self._labels = torch.from_numpy(labels).long().to(self._device)
        self._order = torch.randperm(TRAIN_IMAGES).to(self._device)
        self._position = 0

    def _next_index(self) -> torch.Tensor:
        batch_size = self._options.batch_size
        if self._position + batch_size > TRAIN_IMAGES:
            self._position = 0
        start, self._position = self._position, self._position + batch_size
        return self._order[start : self._position]

    def _augmentation(self) -> nn.Module:
        recipe, settings = reference_augmentation(self._options)
        mean, std = normalization()
        if recipe == ["normalize"]:
            return Normalize(mean, std).to(self._device)
        return Augment(settings, mean, std).to(self._device)

    def _compiled(self, function: Callable, *, graphs: bool) -> Callable:
        if not self._on_gpu:
            return torch.compile(function)
        mode = "max-autotune" if graphs else "max-autotune-no-cudagraphs"
        return torch.compile(function, mode=mode)

    def run(self, steps: int) -> None:
        """Runs steps, and waits for the device."""
        for _ in range(steps):
            self._step()
        if self._on_gpu:
            torch.cuda.synchronize()

    def _step(self) -> None:
        raise NotImplementedError

    def peak_memory(self) -> int:
        """The most bytes that PyTorch had allocated, or this process on a CPU."""
        if self._on_gpu:
            return torch.cuda.max_memory_allocated()
        return super().peak_memory()


class Training(TorchVariant):
    """Training steps over the resident split.

    Args:
        options: the work.
        channels_last: the memory layout of images and kernels.
        compiled: whether forward and backward pass are compiled, with the
            augmentation; on a GPU into CUDA graphs.
    """

    def __init__(
        self, options: Options, *, channels_last: bool, compiled: bool = False
    ):
        super().__init__(options)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self._layout = layout
        model = ResNet(options.depth, NUM_CLASSES).to(self._device)
        self._model = model.to(memory_format=layout).train()
        self._augment = self._augmentation()
        self._optimizer = torch.optim.SGD(
            model.parameters(), 0.1, momentum=0.9, weight_decay=5e-4, fused=True
        )
        self._loss = torch.zeros((), device=self._device)
        self._right = torch.zeros((), dtype=torch.int64, device=self._device)
        self._compute: Callable = self._forward
        self._marks_steps = compiled and self._on_gpu
        if compiled:
            self._compute = self._compiled(self._forward, graphs=True)

    def _forward(
        self, images: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        inputs = self._augment(images).permute(0, 3, 1, 2)
        return self._losses(inputs.contiguous(memory_format=self._layout), labels)

    def _losses(
        self, inputs: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        in_bfloat16 = self._options.dtype == "bfloat16"
        # A cache of cast weights would not outlive the capture of a CUDA graph.
        with torch.autocast(
            self._device.type, torch.bfloat16, in_bfloat16, cache_enabled=False
        ):
            logits = self._model(inputs)
        loss = F.cross_entropy(logits.float(), labels)
        return loss, (logits.argmax(1) == labels).sum()

    def _step(self) -> None:
        index = self._next_index()
        if self._marks_steps:
            torch.compiler.cudagraph_mark_step_begin()
        self._train(self._compute, self._images[index], self._labels[index])

    def _train(
        self, compute: Callable, images: torch.Tensor, labels: torch.Tensor
    ) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        loss, right = compute(images, labels)
        loss.backward()
        self._optimizer.step()
        self._loss += loss.detach()
        self._right += right


class GraphTraining(Training):
    """The whole compiled step in one CUDA graph, the update included.

    The learning rate becomes a constant of the graph; a run would keep it in a tensor.
    """

    def __init__(self, options: Options):
        if options.device != "gpu":
            raise SkippedError("CUDA graphs need a GPU")
        super().__init__(options, channels_last=True)
        self._compute = self._compiled(self._forward, graphs=False)
        self._index = self._next_index().clone()

    def warm_up(self) -> None:
        """Compiles, runs the first steps beside the main stream, and captures one."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_STEPS):
                self._indexed_step()
        torch.cuda.current_stream().wait_stream(stream)
        self._optimizer.zero_grad(set_to_none=True)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._indexed_step()
        self.run(1)

    def _indexed_step(self) -> None:
        images, labels = self._images[self._index], self._labels[self._index]
        self._train(self._compute, images, labels)

    def _step(self) -> None:
        self._index.copy_(self._next_index())
        self._graph.replay()


class Augmentation(TorchVariant):
    """The same batches, made by compiled code and not trained on."""

    def __init__(self, options: Options):
        super().__init__(options)
        self._augment = self._compiled(self._augmentation(), graphs=True)

    def _step(self) -> None:
        if self._on_gpu:
            torch.compiler.cudagraph_mark_step_begin()
        self._augment(self._images[self._next_index()])
