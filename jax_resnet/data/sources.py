"""Opens data sets by name: this is the place where the kind of source is chosen."""

from pathlib import Path

from jax_resnet.data import synthetic
from jax_resnet.data.source import Source
from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.paths import user_path

FOLDER, ARRAYS = "folder", "arrays"  # the user's own images
SMALLEST = 4  # pixels, of any image
RESOLUTION = 32  # pixels, of the images of a folder unless another is asked for


def open_source(name: str, data_dir: str | None, resolution: int) -> Source:
    """Opens a data set; prepares CIFAR-10 or CIFAR-100 first if it is missing.

    Takes and raises what :func:`jax_resnet.data.describe` does.
    """
    source = _open(name, data_dir, resolution)
    height, width, _ = source.info.image_shape
    if min(height, width) < SMALLEST:
        raise UserError(
            f"the images of {source.info.name} have {height}x{width} pixels: at least "
            f"{SMALLEST}x{SMALLEST} are needed, because the network halves them twice"
        )
    if resolution != RESOLUTION and (height, width) != (resolution, resolution):
        raise UserError(
            f"data.resolution is {resolution}, and the images of {source.info.name} "
            f"are stored as {height}x{width}: only those of data.name={FOLDER} are "
            f"resized, so leave it at {RESOLUTION}"
        )
    return source


def _open(name: str, data_dir: str | None, resolution: int) -> Source:
    if name == synthetic.NAME:
        return synthetic.Synthetic()
    # The others are slow to import.
    if name == FOLDER:
        from jax_resnet.data import folder_source

        return folder_source.open_folder(_own_images(name, data_dir), resolution)
    if name == ARRAYS:
        from jax_resnet.data import arrays_source

        return arrays_source.open_arrays(_own_images(name, data_dir))
    from jax_resnet.data import tfds_source

    return tfds_source.open_or_prepare(name, data_dir)


def is_prepared(name: str, data_dir: str | None) -> bool:
    """Returns whether :func:`open_source` needs to download and prepare nothing."""
    if name in (synthetic.NAME, FOLDER, ARRAYS):
        return True
    from jax_resnet.data import tfds_source

    return tfds_source.open_prepared(name, tfds_source.folder(data_dir)) is not None


def _own_images(name: str, data_dir: str | None) -> Path:
    if not data_dir:
        kind = "the folder" if name == FOLDER else "the .npz file"
        raise UserError(f"data.name={name} needs data.dir, {kind} of the images")
    return user_path(data_dir).absolute()
