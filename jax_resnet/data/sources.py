"""Opens data sets by name: this is the place where the kind of source is chosen."""

from jax_resnet.data import synthetic
from jax_resnet.data.source import Source


def open_source(name: str, data_dir: str | None) -> Source:
    """Opens a data set; prepares CIFAR-10 or CIFAR-100 first if it is missing.

    Takes and raises what :func:`jax_resnet.data.describe` does.
    """
    if name == synthetic.NAME:
        return synthetic.Synthetic()
    from jax_resnet.data import tfds_source  # slow to import

    return tfds_source.open_or_prepare(name, data_dir)


def is_prepared(name: str, data_dir: str | None) -> bool:
    """Returns whether :func:`open_source` needs to download and prepare nothing."""
    if name == synthetic.NAME:
        return True
    from jax_resnet.data import tfds_source

    return tfds_source.open_prepared(name, tfds_source.folder(data_dir)) is not None
