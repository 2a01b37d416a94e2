"""Imports between the packages run one way, and those of others are declared."""

import ast
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "jax_resnet"
# Each package or module imports from the rows below its own, and from its own row.
ROWS = re.findall(r"^\d+\. (`.*`)$", (ROOT / "docs/layout.md").read_text(), re.M)
LAYERS = [set(re.findall(r"\w+", row)) for row in ROWS]
# The extras of pyproject.toml that a folder's modules may import from.
EXTRAS = {
    "jax_resnet": ("export", "torch"),
    "configs": (),
    "serve": ("serve",),
    "benchmarks": ("torch",),
    "tests": ("test", "browser"),
}
# The distributions of modules that have another name.
DISTRIBUTIONS = {
    **{"PIL": "pillow", "yaml": "pyyaml", "absl": "absl-py"},
    **{"google": "protobuf", "orbax": "orbax-checkpoint"},
    "markdown_it": "markdown-it-py",
}
IMPORT = r"^ *(?:import|from(?=.* import )) (\w+)"
OPTIONAL = {"torchvision"}  # a benchmark is skipped without it


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


def test_what_is_imported_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    paths = [path for folder in EXTRAS for path in (ROOT / folder).rglob("*")]
    known = {"jax_resnet", *(path.stem for path in paths), *sys.stdlib_module_names}
    for folder, extras in EXTRAS.items():
        lines = project["dependencies"]
        for extra in extras:
            lines = lines + project["optional-dependencies"][extra]
        declared = {re.match(r"[\w-]+", line)[0].lower() for line in lines} | OPTIONAL
        for path in (ROOT / folder).rglob("*.py"):
            for module in re.findall(IMPORT, path.read_text(), re.M):
                name = DISTRIBUTIONS.get(module, module.lower().replace("_", "-"))
                assert name in declared or module in known, f"{path}: {module}"


def test_text_files_are_utf8_in_every_locale():
    unnamed = [
        str(path.relative_to(ROOT))
        for folder in ("jax_resnet", "serve", "configs", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"(read|write)_text\((?!.*utf-8)", path.read_text("utf-8"))
    ]
    assert not unnamed
