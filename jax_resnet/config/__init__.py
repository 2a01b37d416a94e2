"""Loads, checks, prints and compares configs.

A config is a locked ``ConfigDict``, returned by ``get_config()`` of a Python file such
as ``configs/resnet56.py``, where every field is explained. A run keeps it as JSON.
Nothing here imports JAX, so that a wrong argument is answered at once.
"""

from jax_resnet.config.augmentations import (
    AUGMENTATIONS,
    Transform,
    check_augmentations,
)
from jax_resnet.config.fields import (
    FIELDS,
    PARTS,
    Field,
    Resume,
    check,
    check_depth,
    flatten,
    frozen_parts,
    resume_rule,
)
from jax_resnet.config.kept import (
    differences,
    fingerprint,
    kept_fields,
    to_json,
    with_dtype,
)
from jax_resnet.config.loading import checked, load, packaged_names
from jax_resnet.config.printing import render

__all__ = [
    "AUGMENTATIONS",
    "FIELDS",
    "PARTS",
    "Field",
    "Resume",
    "Transform",
    "check",
    "check_augmentations",
    "check_depth",
    "checked",
    "differences",
    "fingerprint",
    "flatten",
    "frozen_parts",
    "kept_fields",
    "load",
    "packaged_names",
    "render",
    "resume_rule",
    "to_json",
    "with_dtype",
]
