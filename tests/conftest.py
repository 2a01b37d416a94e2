import fcntl
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
from command_line import make_tiny, run_here  # noqa: E402


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """A folder that all workers of pytest-xdist share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def tiny(shared):
    """A config file of three small epochs, and an environment with its own caches."""
    return make_tiny(shared)


@pytest.fixture(scope="session")
def finished(tiny, shared):
    """A finished run of `tiny`, trained once for all tests: copy it to change it."""
    workdir = shared / "finished"
    with (shared / "finished.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the other workers wait for the first
        if not (workdir / "summary.json").exists():
            result = run_here(tiny, workdir)
            assert (result.returncode, result.stderr) == (0, "")
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
    for name, option in {"ci": "--ci", "many": "--many-faults"}.items():
        if not config.getoption(option):
            reasons[name] = f"only with {option}"
    for name, reason in reasons.items():
        for item in items:
            if reason and item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_addoption(parser):
    parser.addoption(
        "--ci", action="store_true", help="also run the tests that only CI runs"
    )
    parser.addoption(
        "--many-faults",
        action="store_true",
        help="inject hundreds of faults, not a few; takes most of an hour",
    )
    parser.addoption("--faults-report", help="add the table of faults to this file")
