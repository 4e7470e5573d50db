"""Protects the order of the package's parts: none imports what builds on it, even in a function."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import ademvl

ROOT = Path(ademvl.__file__).parent


def part_of(module: str) -> str:
    """Package or module right under `ademvl`."""
    return module.split(".")[1]


def imported_modules(path: Path) -> set[str]:
    """Modules of ademvl that a file imports when it runs; imports for types alone do not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names = {node.module or "" for node in imports}
    for node in imports:
        if node.module == "ademvl":
            names |= {f"ademvl.{alias.name}" for alias in node.names}
    return {name for name in names if name.startswith("ademvl.") and name != "ademvl.__version__"}


def test_parts_of_the_package_depend_on_each_other_one_way() -> None:
    graph: dict[str, set[str]] = {}
    for path in ROOT.rglob("*.py"):
        module = ".".join(["ademvl", *path.relative_to(ROOT).with_suffix("").parts])
        part = part_of(module)
        graph.setdefault(part, set()).update(map(part_of, imported_modules(path)))
    for part, needed in graph.items():
        needed.discard(part)
    order = list(TopologicalSorter(graph).static_order())  # CycleError names a cycle
    assert order.index("config") < order.index("model") < order.index("cli")
