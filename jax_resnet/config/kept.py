"""Configs as runs keep them: as JSON, compared field by field."""

import json
import textwrap
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from jax_resnet.config.augmentations import AUGMENTATIONS
from jax_resnet.config.fields import FIELDS, flatten
from jax_resnet.config.functions import as_text


def with_dtype(config: ConfigDict, dtype: str) -> ConfigDict:
    """Returns the config with a compute dtype in place of ``"auto"``."""
    config = ConfigDict(config.to_dict())
    if config.model.dtype == "auto":
        config.model.dtype = dtype
    return config.lock()


def to_json(config: ConfigDict) -> dict[str, Any]:
    """Returns nested dictionaries, with lists for tuples and texts for functions."""
    return json.loads(json.dumps(config.to_dict(), sort_keys=True, default=_for_json))


def kept_fields(kept: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a kept run's config, which may be of an older version."""
    every_field = FIELDS | {
        f"augment.{name}.{setting}": field
        for name, settings in AUGMENTATIONS.items()
        for setting, field in settings.items()
    }
    defaults = {name: field.default for name, field in every_field.items()}
    fields = {name: value for name, value in defaults.items() if value is not None}
    fields |= flatten(kept)
    fields.pop("train.max_skipped_steps", None)  # there is no such field any more
    if "augment.recipe" in fields:  # as augment.transforms was called
        fields["augment.transforms"] = fields.pop("augment.recipe")
    return fields


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, str]:
    """Returns each field that differs between two kept configs, and how, in words."""
    before, after = kept_fields(old), kept_fields(new)
    lines = {}
    for name in sorted(before.keys() | after.keys()):
        values = [fields.get(name, "absent") for fields in (before, after)]
        if values[0] != values[1]:
            was, now = (textwrap.shorten(repr(value), 200) for value in values)
            lines[name] = f"{name} was {was} and is {now}"
    return lines


def fingerprint(config: Mapping[str, Any], ignored: Sequence[str] = ()) -> int:
    """Returns a checksum of a config's fields, but for the ``ignored`` ones."""
    fields = {n: v for n, v in flatten(config).items() if n not in ignored}
    return zlib.crc32(json.dumps(fields, sort_keys=True).encode())


def _for_json(value: object) -> str:
    if callable(value):
        return as_text(value)
    raise TypeError(f"a {type(value).__name__} is not JSON")
