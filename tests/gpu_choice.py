"""Whether the tests of ``tests/gpu`` run, and whether they see a GPU.

``python -m pytest -m gpu`` runs them where JAX finds a GPU. The environment variable
``JAX_RESNET_GPU_TESTS=dry`` has the CPU stand in for it, which shows that the tests
themselves work. Without ``-m gpu`` no test finds a GPU or needs one.

To be imported before JAX.
"""

import os

PLATFORMS = os.environ.get("JAX_PLATFORMS")  # as it was set
os.environ.setdefault("JAX_PLATFORMS", "cpu")
DRY = os.environ.get("JAX_RESNET_GPU_TESTS") == "dry"


def are_asked_for(expression):
    """Whether the expression after pytest's ``-m`` asks for these tests alone."""
    return expression == "gpu"


def prepare(expression):
    """Lets JAX find the GPU if that is asked for, before it looks for devices."""
    if DRY or not are_asked_for(expression):
        return
    import jax

    platforms = PLATFORMS
    if platforms and "cpu" not in platforms:
        platforms += ",cpu"  # the GPU is compared with it
    # The processes that the tests start have the same environment, and the same card.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ.pop("JAX_PLATFORMS")
    if platforms:
        os.environ["JAX_PLATFORMS"] = platforms
    jax.config.update("jax_platforms", platforms)


def reason_to_skip(expression):
    """Why the marked tests cannot run; None if they can."""
    if DRY:
        return None
    if not are_asked_for(expression):
        return "only with -m gpu"
    import jax

    try:
        jax.devices("gpu")
    # JAX asserts where a plugin is installed and finds no device.
    except (RuntimeError, AssertionError) as error:
        return f"JAX finds no GPU: {' '.join(str(error).split())[:200]}"
    return None
