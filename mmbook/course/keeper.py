"""In a submission's kernel, from before its first cell: puts back what the course's cells use.

`put_back` is called before each of the course's cells, `remember` behind it. This module has
globals of its own, so that a student's `list = [1, 2]` does not reach it.
"""

import builtins
import sys
from types import ModuleType

space: dict[str, object] = {}  # the kernel's own names: set by the grader
known: dict[str, object] = {}  # functions, classes and modules that the course's cells made
parts: dict[tuple[ModuleType, str], object] = {}  # what stood in modules when first seen
before: dict[str, object] = {}  # all names when the course's cell began
OTHERS = ("builtins", "torch.testing", "numpy.testing")


def is_kept(value: object) -> bool:
    """Return whether a value is a thing that checks call or look into."""
    return callable(value) or isinstance(value, ModuleType)


def put_back(names: list[str]) -> None:
    """Give the names, which the course's cells use, the values that they had there; the same for
    functions in modules."""
    for name in names:
        if name in known:
            space[name] = known[name]
        elif hasattr(builtins, name):
            space.pop(name, None)
    for (module, name), real in parts.items():
        if vars(module).get(name) is not real:
            setattr(module, name, real)
    before.clear()
    before.update(space)


def remember() -> None:
    """Remember what a cell of the course has made or imported, and what those modules hold."""
    known.update(
        {
            name: value
            for name, value in space.items()
            if not name.startswith("_") and before.get(name) is not value and is_kept(value)
        }
    )
    modules = [value for value in known.values() if isinstance(value, ModuleType)]
    for module in [*modules, *(sys.modules[name] for name in OTHERS if name in sys.modules)]:
        for name, value in list(vars(module).items()):
            if is_kept(value) and not name.startswith("__"):
                parts.setdefault((module, name), value)
