import pytest
from data_fixtures import prepare_cifar


@pytest.fixture(scope="session")
def cifar100(tmp_path_factory):
    """A tiny cifar100, and what is in it; not to be written to."""
    folder = tmp_path_factory.mktemp("tfds")
    return str(folder), prepare_cifar("cifar100", folder)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_RESNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
