"""A model as a folder for the Hugging Face Hub: weights, metadata and card."""

from pathlib import Path

import numpy as np

from jax_resnet.checkpoint import model_folder
from jax_resnet.formats import Probabilities, model_card
from jax_resnet.formats.output import write_file
from jax_resnet.predict import Predictor
from jax_resnet.runtime.errors import UserError


def write(predictor: Predictor, path: Path) -> None:
    """Makes the folder, which :meth:`Predictor.open` opens.

    Raises:
        OSError: if it cannot be written.
    """
    path.mkdir()
    model_folder.write(path, predictor.stored)
    write_file(path / "README.md", model_card.render(predictor.stored).encode())


def load(path: Path, predictor: Predictor) -> Probabilities:
    """The model of a folder that :func:`write` wrote, for comparison.

    Raises:
        UserError: if it cannot be opened, or is not exactly the model.
    """
    opened, expected = Predictor.open(path), predictor.stored
    found = opened.stored
    if (found.metadata, found.step, found.temperature) != (
        expected.metadata,
        expected.step,
        expected.temperature,
    ) or any(
        not np.array_equal(found.arrays[name], array)
        for name, array in expected.arrays.items()
    ):
        raise UserError("what was written is not the restored model")
    return opened.predict
