import fcntl
import os
from pathlib import Path

# Processes that tests start get the same. XLA for CPU adds up in another order with
# another number of devices; all but the tests of several devices use the first.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
)
os.environ.setdefault("MPLBACKEND", "agg")

import jax
import pytest
from jaxtyping import install_import_hook

# Shape and dtype annotations are checked in tests, and cost nothing elsewhere.
hook = install_import_hook("jax_resnet", "beartype.beartype")
hook.__enter__()
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

from command_line import TINY, jax_settings_restored, run_here  # noqa: E402


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A config file of three small epochs, beside a cache for its runs.

    All workers of pytest-xdist share its folder.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    path = folder / "tiny.py"
    path.write_text(TINY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield path


@pytest.fixture(scope="session")
def finished(tiny):
    """A finished run of `tiny`, trained once for all tests: copy it to change it."""
    workdir = tiny.with_name("finished")
    with tiny.with_name("lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the other workers wait for the first
        if not (workdir / "summary.json").exists():
            result = run_here(tiny, workdir)
            assert (result.returncode, result.stderr) == (0, "")
    return workdir


@pytest.fixture
def restored():
    with jax_settings_restored():
        yield


def pytest_addoption(parser):
    parser.addoption("--ci", action="store_true", help="also run the tests of CI alone")
    parser.addoption(
        "--many-faults",
        action="store_true",
        help="inject hundreds of faults, not a few; takes about ten minutes",
    )
    parser.addoption("--faults-report", help="add the table of faults to this file")


def pytest_configure(config):
    if config.option.markexpr == "gpu" and "JAX_RESNET_GPU_TESTS" not in os.environ:
        # JAX has not looked for devices yet. Processes that tests start use them too.
        os.environ["JAX_PLATFORMS"] = "cuda,cpu"
        os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
        jax.config.update("jax_platforms", "cuda,cpu")


def pytest_collection_modifyitems(config, items):
    # The longest files come first, so that no worker is left alone with one of them.
    long = {item.path for item in items if item.get_closest_marker("ci")}
    items.sort(key=lambda item: item.path not in long)
    if not (config.option.ci or config.option.many_faults):
        for item in items:
            if item.get_closest_marker("ci"):
                item.add_marker(pytest.mark.skip(reason="only with --ci"))
