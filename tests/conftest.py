import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")

from jaxtyping import install_import_hook

# Shape and dtype annotations are checked in tests, and cost nothing elsewhere.
hook = install_import_hook("jax_resnet", "beartype.beartype")
hook.__enter__()

import jax  # noqa: E402

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
