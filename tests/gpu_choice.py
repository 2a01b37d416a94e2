"""Whether the tests of ``tests/gpu`` run, and whether JAX may use a GPU.

Only ``python -m pytest -m gpu`` lets JAX use one. The environment variable
``JAX_RESNET_GPU_TESTS=dry`` has the CPU stand in for it, which checks the tests
themselves. Import this module before JAX.
"""

import os

PLATFORMS = os.environ.get("JAX_PLATFORMS")  # before the next line changes it
os.environ.setdefault("JAX_PLATFORMS", "cpu")
DRY = os.environ.get("JAX_RESNET_GPU_TESTS") == "dry"


def prepare(expression):
    """Lets JAX use the GPU if the expression after pytest's ``-m`` is ``gpu``."""
    if DRY or expression != "gpu":
        return
    import jax

    platforms = PLATFORMS
    if platforms and "cpu" not in platforms:
        platforms += ",cpu"  # the tests compare the GPU with it
    # Processes that the tests start use the same card.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ.pop("JAX_PLATFORMS")
    if platforms:
        os.environ["JAX_PLATFORMS"] = platforms
    jax.config.update("jax_platforms", platforms)


def reason_to_skip(expression):
    """Returns why the tests cannot run; None if they can."""
    if DRY:
        return None
    if expression != "gpu":
        return "only with -m gpu"
    import jax

    try:
        jax.devices("gpu")
    # JAX asserts where a plugin is installed and finds no device.
    except (RuntimeError, AssertionError) as error:
        return f"JAX finds no GPU: {' '.join(str(error).split())[:200]}"
    return None
