"""Imports between the packages run one way."""

import ast
from pathlib import Path

import jax_resnet

# Each package or module imports from the rows below its own, and from its own row.
LAYERS = [
    {"train", "evaluate", "export"},
    {"search"},
    {"training"},
    {"evaluation", "formats"},
    {"predict"},
    {"reporting"},
    {"checkpoint", "distributed"},
    {"augment", "data", "model", "config"},
    {"runtime"},
]
ROOT = Path(jax_resnet.__file__).parent


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
    for path in ROOT.rglob("*.py"):
        own = path.relative_to(ROOT).parts[0].removesuffix(".py")
        upward += [
            f"{path.relative_to(ROOT)} imports {name}"
            for name in imports(path)
            if layer_of.get(name, len(LAYERS)) < layer_of.get(own, 0)
        ]
    assert not upward


def test_every_package_has_a_layer():
    found = {path.stem for path in ROOT.iterdir() if not path.stem.startswith("_")}
    assert found - {"py"} == set.union(*LAYERS)
