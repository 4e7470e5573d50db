"""Protects how modules import: nothing that builds on them, and each name from where it is defined.

Imports inside functions count too.
"""

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import ademvl

ROOT = Path(ademvl.__file__).parent


def part_of(module: str) -> str:
    """Package or module right under `ademvl`."""
    return module.split(".")[1]


@cache
def tree_of(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_modules(path: Path) -> set[str]:
    """Modules of ademvl that a file imports when it runs; imports for types alone do not count."""
    for_types = {
        inner
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in node.body
    }
    imports = [
        node
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ImportFrom) and node not in for_types
    ]
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


def names_defined_in(path: Path) -> set[str]:
    """Names that a file defines, of which none is imported."""
    nodes = list(ast.walk(tree_of(path)))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)} | {
        node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


def test_names_are_imported_from_the_module_that_defines_them() -> None:
    project = ROOT.parent
    files = [path for part in (ROOT, project / "tests") for path in part.rglob("*.py")]
    names = {
        ".".join(path.relative_to(project).with_suffix("").parts): names_defined_in(path)
        for path in files
        if path.name != "__init__.py"
    }
    findings = [
        f"{path.relative_to(project)}:{node.lineno}: {alias.name} is not defined in {node.module}"
        for path in files
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ImportFrom) and node.module in names
        for alias in node.names
        if alias.name not in names[node.module]
    ]
    assert findings == []
