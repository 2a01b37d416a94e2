"""Models that were trained before: to start from, and to learn from."""

from jax_resnet import data
from jax_resnet.model.weights import Weights, from_arrays
from jax_resnet.predict import Predictor
from jax_resnet.runtime.errors import UserError
from jax_resnet.training.state import TrainState


def with_weights_of(source: Predictor, state: TrainState) -> TrainState:
    """Returns the state with the weights of another model.

    Raises UserError if the model has another architecture.
    """
    template = {"state": Weights(state.params, state.batch_stats)}
    try:
        weights = from_arrays(template, source.stored.arrays)["state"]
    except UserError as error:
        raise UserError(
            f"train.initial_model {str(source.source)!r} does not fit: {error}; "
            "set model.* and data.name to what it was trained with"
        ) from error
    return state.with_weights(weights)


def open_teacher(path: str, info: data.DatasetInfo) -> Predictor:
    """Opens the teacher for distillation: a run directory or an exported folder.

    Raises UserError if there is no model, or it was trained on other classes
    or images than the student's.
    """
    try:
        source = Predictor.open(path)
    except UserError as error:
        raise UserError(f"distill.teacher: {error}") from error
    seen = (info.class_names, info.image_shape, info.mean)
    if (source.info.class_names, source.info.image_shape, source.info.mean) != seen:
        raise UserError(
            f"distill.teacher {path!r} was trained on {source.info.name}, not on the "
            f"classes and images of {info.name}"
        )
    return source
