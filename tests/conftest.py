import os

import gpu_choice  # first: it keeps JAX from the GPU

os.environ.setdefault("MPLBACKEND", "agg")

from jaxtyping import install_import_hook

# Shape and dtype annotations are checked in tests, and cost nothing elsewhere.
hook = install_import_hook("jax_resnet", "beartype.beartype")
hook.__enter__()

import jax  # noqa: E402

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
# For what several devices compute together; all else takes the first.
jax.config.update("jax_num_cpu_devices", 8)


import pytest  # noqa: E402
from command_line import make_tiny, run  # noqa: E402


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A config file, and an environment with caches of its own."""
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def finished(tiny, tmp_path_factory):
    """An uninterrupted run."""
    workdir = tmp_path_factory.mktemp("runs") / "finished"
    result = run(tiny, workdir)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return workdir


@pytest.fixture
def restored():
    """JAX's settings, which a benchmark changes for its process, are put back."""
    names = ("jax_enable_compilation_cache", "jax_default_device", "jax_platforms")
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def pytest_configure(config):
    # Nothing has asked JAX for a device yet.
    gpu_choice.prepare(config.option.markexpr)


def pytest_collection_modifyitems(config, items):
    reasons = {"gpu": gpu_choice.reason_to_skip(config.option.markexpr)}
    if not config.getoption("--many-faults"):
        reasons["many"] = "only with --many-faults"
    for name, reason in reasons.items():
        for item in items:
            if reason and item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_addoption(parser):
    parser.addoption(
        "--many-faults",
        action="store_true",
        help="inject hundreds of faults, not a few; takes most of an hour",
    )
    parser.addoption("--faults-report", help="add the table of faults to this file")
