"""Fine-tuning: training that starts from a model, whose classes may be others."""

from collections.abc import Collection

from jax_resnet.data import DatasetInfo
from jax_resnet.model.weights import Weights, from_arrays, to_arrays
from jax_resnet.predictor import Predictor
from jax_resnet.runtime.errors import UserError
from jax_resnet.training.state import TrainState


def start_from(
    source: Predictor, state: TrainState, info: DatasetInfo, frozen: Collection[str]
) -> TrainState:
    """Gives a new state the weights of a model, but for a new head.

    Raises UserError if the model has another architecture, or a new head is frozen.
    """
    name = f"train.initial_model {str(source.source)!r}"
    template = {"state": Weights(state.params, state.batch_stats)}
    arrays = dict(source.stored.arrays)
    if needs_new_head(source, info):
        if "head" in frozen:
            raise UserError(
                f"optimizer.frozen names the head, and that of {name} does not fit "
                "the classes: a new head has to be trained"
            )
        drawn = to_arrays(template).items()
        arrays |= {n: array for n, array in drawn if n.startswith("state.params.head.")}
    try:
        weights = from_arrays(template, arrays)["state"]
    except UserError as error:
        own = source.metadata.model
        raise UserError(
            f"{name} does not fit: {error}; it has model.depth={own['depth']}, "
            f"model.width={own['width']}, model.shortcut={own['shortcut']} and images "
            f"of {own['in_channels']} channels"
        ) from error
    return state.with_weights(weights)


def needs_new_head(source: Predictor, info: DatasetInfo) -> bool:
    """Whether the classes are others than the model's, or in another order."""
    return source.info.class_names != info.class_names


def describe(source: Predictor, info: DatasetInfo, frozen: Collection[str]) -> str:
    """Returns the model, whether the head is new, and the frozen parts in one line."""
    line = source.describe()
    if needs_new_head(source, info):
        own = source.info.num_classes
        line += f"; new head for {info.num_classes} classes in place of its {own}"
    return f"{line}; frozen: {', '.join(frozen)}" if frozen else line
