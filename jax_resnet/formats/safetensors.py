"""A folder for the Hugging Face Hub: weights, metadata and model card."""

from pathlib import Path

from jax_resnet.checkpoint import model_folder
from jax_resnet.formats import model_card
from jax_resnet.predictor import Predictor
from jax_resnet.runtime.files import write_atomically


def write(predictor: Predictor, path: Path) -> None:
    """Writes the folder."""
    path.mkdir()
    model_folder.write(path, predictor.stored)
    write_atomically(path / "README.md", model_card.render(predictor.stored).encode())


def load(path: Path, _: Predictor) -> Predictor:
    """Opens the folder."""
    return Predictor.open(path)
