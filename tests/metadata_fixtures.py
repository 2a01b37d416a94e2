"""The record of a run that never was: ResNet-8 on four by four grey pixels."""

from jax_resnet import config
from jax_resnet.checkpoint.history import Clock, EpochRecord, RunInfo
from jax_resnet.checkpoint.metadata import Architecture, RunMetadata
from jax_resnet.data import DatasetInfo

CONFIG = config.to_json(
    config.load(
        "configs/resnet56.py",
        ["--config.model.depth=8", "--config.model.dtype=float32"],
    ).unlock()
)
SIZE = {name: CONFIG["model"][name] for name in ("depth", "width", "shortcut", "dtype")}

INFO = RunInfo(
    title="resnet56",
    command="python -m jax_resnet.train --config configs/resnet56.py",
    started="2026-01-02T03:04:05+00:00",
    device="cpu",
    platform="Linux x86_64",
    versions={"python": "3.11.7", "jax": "0.10.2"},
    parameters=861620,
    epochs=5,
    dataset="cifar100",
    n_train=50000,
    n_eval=10000,
    eval_name="test",
    batch_size=128,
    seed=0,
    dtype="float32",
)
TOP1 = [0.10, 0.30, 0.4321, 0.4321, 0.40]


def record(epoch: int, **changes) -> EpochRecord:
    values = EpochRecord(
        epoch=epoch,
        step=391 * epoch,
        train_loss=4 - epoch / 8,
        train_top1=0.05 * epoch,
        val_loss=4.2 - epoch / 7,
        val_top1=TOP1[epoch - 1],
        val_top5=0.1 * epoch + 0.2,
        learning_rate=0.1 / epoch,
        seconds=10.0 + epoch,
        images_per_second=1000.0 * epoch,
    )
    return {**values, **changes}


HISTORY = [record(epoch) for epoch in range(1, 6)]


def run_metadata(history=()):
    return RunMetadata(
        model=Architecture(**SIZE, num_classes=3, in_channels=1),
        dataset=DatasetInfo(
            name="grey",
            version="1.0.0",
            image_shape=(4, 4, 1),
            class_names=("a", "b", "c"),
            superclass_names=(),
            superclass_of=(),
            mean=(0.4,),
            std=(0.2,),
        ),
        config=CONFIG,
        run=INFO,
        clock=Clock(wall=100.0),
        history=list(history),
        compile_seconds=7.5,
    )
