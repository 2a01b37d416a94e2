"""Imports between the packages run one way."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "jax_resnet"
# Each package or module imports from the rows below its own, and from its own row.
ROWS = re.findall(r"^\d+\. (`.*`)$", (ROOT / "docs/layout.md").read_text(), re.M)
LAYERS = [set(re.findall(r"\w+", row)) for row in ROWS]


def imports(path):
    """Yields the packages and modules of jax_resnet that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            first, *rest = node.module.split(".")
            if first == "jax_resnet":
                yield from rest[:1] or (alias.name for alias in node.names)


def test_imports_point_down():
    layer_of = {name: i for i, names in enumerate(LAYERS) for name in names}
    upward = []
    for path in PACKAGE.rglob("*.py"):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        upward += [
            f"{path.relative_to(ROOT)} imports {name}"
            for name in imports(path)
            if layer_of.get(name, len(LAYERS)) < layer_of.get(own, 0)
        ]
    assert not upward


def test_every_package_has_a_layer():
    found = {path.stem for path in PACKAGE.iterdir() if not path.stem.startswith("_")}
    assert found - {"py"} == set.union(*LAYERS)
