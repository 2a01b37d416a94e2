"""Config files and their command-line overrides, with errors for people."""

import importlib.util
import json
import os
import re
import sys
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from jax_resnet.fields import ADDED, check
from jax_resnet.runtime.errors import UserError, nearest

_PARSE_ERRORS = (flags.Error, ValueError, TypeError, SyntaxError)
_OVERRIDE = re.compile(r"--?(?:no)?config\.(?P<field>[^=]*)")


def load(path: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """The locked config that a file's ``get_config()`` returns, with overrides.

    The file's own folder is importable while it runs, so that a config can build on
    its neighbours. A config file is Python, and runs as the user.

    Args:
        path: of the Python file.
        overrides: command-line arguments, ``--config.a.b=v`` or ``--config.a.b v``.

    Raises:
        UserError: if the file is no config, or an override names no field of it or
            has the wrong type.
    """
    config = _run(Path(path))
    fields = flatten(config)
    for argument in overrides:
        if re.match("--?(flagfile|undefok)", argument):
            raise UserError(f"unexpected argument {argument!r}")
        match = _OVERRIDE.fullmatch(argument.split("=", 1)[0])
        if match and match["field"] not in fields:
            name = match["field"]
            below = [field for field in fields if field.startswith(name + ".")]
            hint = (
                f": it is a group, set {below[0]}" if below else nearest(name, fields)
            )
            raise UserError(f"config has no field {name!r}{hint}")
    flag_values = flags.FlagValues()
    argv = ["train", *_last_of_each(overrides)]
    try:
        with warnings.catch_warnings():  # of Python, that a literal looks odd
            warnings.simplefilter("ignore")
            holder = config_flags.DEFINE_config_dict(
                "config", config, flag_values=flag_values, sys_argv=argv
            )
            unparsed = flag_values(argv)[1:]
            config = holder.value
        json.dumps(flatten(config))  # a run records its config
    # The parsers behind the flags raise what the literals in an override raise: for
    # one that is nested too deeply even MemoryError.
    except (*_PARSE_ERRORS, MemoryError, RecursionError) as error:
        raise UserError(f"cannot set the config: {_one_line(error)}") from error
    if unparsed:
        raise UserError(f"unexpected argument {unparsed[0]!r}; options begin with --")
    check(flatten(config))
    return config.lock()


def with_dtype(config: ConfigDict, dtype: str) -> ConfigDict:
    """The config with a compute dtype in place of ``"auto"``; else as it is."""
    if config.model.dtype != "auto":
        return config
    config = ConfigDict(config.to_dict())
    config.model.dtype = dtype
    return config.lock()


def _last_of_each(arguments: Sequence[str]) -> list[str]:
    """The arguments, of each field the last: absl would add up tuples set twice."""
    final: dict[str, list[str]] = {}
    left = list(arguments)
    while left:
        words = [left.pop(0)]
        match = _OVERRIDE.fullmatch(words[0].split("=", 1)[0])
        if match and "=" not in words[0] and left and not _OVERRIDE.match(left[0]):
            words.append(left.pop(0))  # its value
        name = match["field"] if match else f" {len(left)}"
        final.pop(name, None)
        final[name] = words
    return [word for words in final.values() for word in words]


def flatten(config: Mapping[str, Any] | ConfigDict, prefix: str = "") -> dict[str, Any]:
    """The fields by dotted name, groups opened."""
    fields: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, ConfigDict | dict):
            fields.update(flatten(value, f"{prefix}{name}."))
        else:
            fields[prefix + name] = value
    return fields


def to_json(config: ConfigDict) -> dict[str, Any]:
    """Nested plain dictionaries, with lists for tuples, as JSON has them."""
    return {
        name: to_json(value) if isinstance(value, ConfigDict) else _lists(value)
        for name, value in config.items()
    }


def _lists(value: Any) -> Any:
    return [*map(_lists, value)] if isinstance(value, tuple | list) else value


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], ignored: Sequence[str] = ()
) -> Iterator[str]:
    """Says which fields differ between two configs, but for the ``ignored`` ones.

    A field that an older config lacks has its value in
    :data:`~jax_resnet.fields.ADDED`. Those ignored are whole names, or groups such
    as ``"augment."``.
    """
    old_fields, new_fields = ({**ADDED, **flatten(config)} for config in (old, new))
    groups = tuple(name for name in ignored if name.endswith("."))
    for name in sorted({*old_fields, *new_fields}.difference(ignored)):
        if name.startswith(groups):
            continue
        before, after = (f.get(name, "absent") for f in (old_fields, new_fields))
        if before != after:
            was, is_now = _brief(repr(before)), _brief(repr(after))
            yield f"{_brief(name)} was {was} and is {is_now}"


def fingerprint(config: Mapping[str, Any], ignored: Sequence[str] = ()) -> int:
    """A checksum of a config's fields, but for the ``ignored`` ones."""
    fields = {n: v for n, v in flatten(config).items() if n not in ignored}
    return zlib.crc32(json.dumps(fields, sort_keys=True).encode())


def _run(path: Path) -> ConfigDict:
    if not os.path.isfile(path):  # noqa: PTH113 (Path's raises for a name too long)
        raise UserError(
            f"no config file {str(path)!r}: give one such as configs/resnet56.py"
        )
    specification = importlib.util.spec_from_file_location("config", path)
    if path.suffix != ".py" or not specification or not specification.loader:
        raise UserError(f"config {str(path)!r} is not a Python file (.py)")
    module = importlib.util.module_from_spec(specification)
    sys.path.insert(0, str(path.resolve().parent))
    try:
        specification.loader.exec_module(module)
        if not hasattr(module, "get_config"):
            raise UserError(f"config {str(path)!r} defines no function get_config()")
        config = module.get_config()
        if type(config) is not ConfigDict:
            raise UserError(
                f"get_config() of {str(path)!r} must return an "
                f"ml_collections.ConfigDict, not {type(config).__name__}"
            )
        json.dumps(flatten(config))  # a run records its config
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(
            f"config {str(path)!r} fails: {type(error).__name__}: {_one_line(error)}"
        ) from error
    finally:
        sys.path.pop(0)
    return config


def _brief(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 200 else line[:200] + "..."


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
