"""The operations of a compiled program, read from its text in HLO."""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2} | dict.fromkeys(
    ("f32", "s32", "u32"), 4
)
_WIDE = 8  # bytes of every other type
# Instructions that do no work, such as names for parts of an array.
_FREE = {
    "after-all",
    "bitcast",
    "constant",
    "get-tuple-element",
    "opt-barrier",
    "parameter",
    "partition-id",
    "tuple",
}
_HEADING = re.compile(r"(?P<entry>ENTRY )?%?(?P<name>\S+) \(.*\) -> .* \{")
_INSTRUCTION = re.compile(
    r"\s+(ROOT )?%?(?P<name>\S+) = (?P<type>.*?) (?P<code>[a-z][\w\-]*)\((?P<rest>.*)"
)
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")
SMALL_SUM = 2**20  # bytes: a reduction that takes fewer is the last part of another


@dataclass(frozen=True)
class Operation:
    """An instruction that becomes work on the device.

    Attributes:
        code: its kind in HLO, such as ``fusion``.
        source: the place in the Python program that it comes from, by JAX.
        target: the function, if it calls a library; "" otherwise.
        results: type and number of elements of each array that it writes.
        operands: type and number of elements of each array that it reads.
        inner: the codes of the instructions that a fusion holds.
    """

    code: str
    source: str
    target: str
    results: tuple[tuple[str, int], ...]
    operands: tuple[tuple[str, int], ...]
    inner: frozenset[str] = frozenset()

    @property
    def bytes(self) -> int:
        """Bytes that it reads and writes, each array once and whole."""
        arrays = (*self.results, *self.operands)
        return sum(BYTES.get(kind, _WIDE) * count for kind, count in arrays)

    @property
    def largest(self) -> int:
        """Elements of the largest result."""
        return max(count for _, count in self.results)


def operations_of_a_step(program: str) -> list[Operation]:
    """The operations of the body of a program's longest loop; without loops, of all.

    Args:
        program: in HLO, after all optimisations.

    Raises:
        ValueError: if it is no such program.
    """
    computations = _computations(program)
    bodies = set(re.findall(r" while\(.*?body=%?([\w.\-]+)", program))
    if not bodies:
        entry = re.search(r"^ENTRY %?(\S+) ", program, re.MULTILINE)
        if not entry:
            raise ValueError("no program in HLO")
        bodies = {entry[1]}
    found = [list(_operations(computations, name)) for name in bodies]
    return max(found, key=len)


def _computations(program: str) -> dict[str, list[re.Match[str]]]:
    """The instructions of each computation."""
    found: dict[str, list[re.Match[str]]] = {}
    current: list[re.Match[str]] | None = None
    for line in program.splitlines():
        if heading := _HEADING.fullmatch(line):
            current = found.setdefault(heading["name"], [])
        elif line.startswith("}"):
            current = None
        elif current is not None and (instruction := _INSTRUCTION.match(line)):
            current.append(instruction)
    return found


def _operations(
    computations: dict[str, list[re.Match[str]]], name: str
) -> Iterator[Operation]:
    types = {each["name"]: _arrays(each["type"]) for each in computations[name]}
    for each in computations[name]:
        if each["code"] in _FREE:
            continue
        rest = each["rest"]
        called = re.search(r"calls=%?([\w.\-]+)", rest)
        inside = computations.get(called[1], []) if called else []
        read = re.findall(r"%([\w.\-]+)", _operands(rest))
        yield Operation(
            each["code"],
            _quoted("op_name", rest),
            _quoted("custom_call_target", rest),
            types[each["name"]],
            tuple(array for operand in read for array in types.get(operand, ())),
            frozenset(instruction["code"] for instruction in inside),
        )


def _arrays(text: str) -> tuple[tuple[str, int], ...]:
    return tuple(
        (kind, math.prod(int(n) for n in sides.split(",") if n))
        for kind, sides in _ARRAY.findall(text)
    )


def _operands(rest: str) -> str:
    """The text up to the bracket that closes the operands."""
    open_brackets = 1
    for place, character in enumerate(rest):
        open_brackets += {"(": 1, ")": -1}.get(character, 0)
        if not open_brackets:
            return rest[:place]
    return rest


def _quoted(key: str, rest: str) -> str:
    found = re.search(rf'{key}="([^"]*)"', rest)
    return found[1] if found else ""


def _is_augmentation(operation: Operation) -> bool:
    return bool(re.search(r"vmap\(|threefry|batch_of", operation.source))


def _is_cast(operation: Operation) -> bool:
    from_float32 = {kind for kind, _ in operation.operands} == {"f32"}
    moves = {"parameter", "convert", "bitcast", "copy", "transpose", "tuple"}
    return (
        operation.inner | {"convert"} <= moves and from_float32 and _is_short(operation)
    )


def _is_short(operation: Operation) -> bool:
    return {kind for kind, _ in operation.results} == {"bf16"}


def _is_outside_of_the_gradient(operation: Operation) -> bool:
    return bool(operation.source) and "jvp(" not in operation.source


# The first that fits names an operation.
_KINDS: dict[str, Callable[[Operation], bool]] = {
    "convolutions": lambda o: "conv" in o.target or o.code == "convolution",
    "matrix products": lambda o: (
        "gemm" in o.target or "dot" in o.inner or o.code == "dot"
    ),
    "choice and augmentation of images": _is_augmentation,
    "large reductions": lambda o: (
        ("reduce" in o.inner or o.code == "reduce") and o.bytes >= SMALL_SUM
    ),
    "final reductions": lambda o: "reduce" in o.inner or o.code == "reduce",
    "casts of weights": _is_cast,
    "single numbers": lambda o: o.largest <= 2,
    "vectors of the channels": lambda o: (
        "jvp(" in o.source and {k for k, _ in o.results} == {"f32"} and o.bytes < 2**16
    ),
    "updates of parameters, statistics and optimizer": _is_outside_of_the_gradient,
}
OTHER = "other elementwise"


def kinds(training: bool) -> tuple[str, ...]:
    """The kinds of operations, in the order of a table."""
    left_out = () if training else ("updates of parameters, statistics and optimizer",)
    return tuple(kind for kind in (*_KINDS, OTHER) if kind not in left_out)


def kind_of(operation: Operation, *, training: bool = True) -> str:
    """The kind of an operation, as far as its text shows it.

    Args:
        operation: an operation of a compiled step.
        training: whether it is the training step, not that of evaluation.
    """
    return next((k for k in kinds(training)[:-1] if _KINDS[k](operation)), OTHER)
