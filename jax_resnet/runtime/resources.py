"""The project's own folders, in a source tree and in a wheel."""

from pathlib import Path

_PACKAGE = Path(__file__).parent.parent


def own_folder(name: str) -> Path:
    """Returns ``configs``, ``serve`` or another folder of the project.

    A wheel has it inside the package, a source tree beside the package.
    """
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name
