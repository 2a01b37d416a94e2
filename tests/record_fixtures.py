"""The record of a run that never was: ResNet-8 on four by four grey pixels."""

from test_history import INFO

from jax_resnet import config
from jax_resnet.data import DatasetInfo
from jax_resnet.history import Clock
from jax_resnet.record import Architecture, RunRecord

CONFIG = config.to_json(
    config.load(
        "configs/resnet56.py",
        ["--config.model.depth=8", "--config.model.dtype=float32"],
    ).unlock()
)
SIZE = {name: CONFIG["model"][name] for name in ("depth", "width", "shortcut", "dtype")}


def run_record(history=()):
    return RunRecord(
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
