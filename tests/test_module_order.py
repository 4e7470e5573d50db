"""Protects how modules import: nothing that builds on them, and each name from where it is defined.

Imports inside functions and those for types alone count like all others.
"""

import ast
import re
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import ademvl
from ademvl.config.tasks import all_facts, task_folders

ROOT = Path(ademvl.__file__).parent
MAX_SINGLE_MODULES = 3


def module_of(path: Path) -> str:
    """Name of a file's module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(["ademvl", *(part for part in parts if part != "__init__")])


def part_of(module: str) -> str:
    """Package or module right under `ademvl`."""
    return module.split(".")[1]


@cache
def tree_of(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_modules(path: Path) -> set[str]:
    """Modules of ademvl that a file imports anywhere."""
    names: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
            names.add(node.module or "")
    return {name for name in names if name.startswith("ademvl.") and name != "ademvl.__version__"}


@pytest.fixture(scope="module")
def needed() -> dict[str, set[str]]:
    """Parts that each part imports."""
    graph: dict[str, set[str]] = {}
    for path in ROOT.rglob("*.py"):
        if path != ROOT / "__init__.py":
            part = part_of(module_of(path))
            graph.setdefault(part, set()).update(map(part_of, imported_modules(path)))
    return {part: others - {part} for part, others in graph.items()}


def all_needed(part: str, needed: dict[str, set[str]]) -> set[str]:
    """Parts that a part needs, through others too."""
    found: set[str] = set()
    waiting = [part]
    while waiting:
        more = needed[waiting.pop()] - found
        found |= more
        waiting += more
    return found


def test_relative_imports_are_not_used() -> None:
    # They would go unseen here.
    for path in ROOT.rglob("*.py"):
        nodes = ast.walk(tree_of(path))
        assert not any(isinstance(n, ast.ImportFrom) and n.level for n in nodes), path


def test_parts_of_the_package_depend_on_each_other_one_way(needed: dict[str, set[str]]) -> None:
    list(TopologicalSorter(needed).static_order())  # CycleError names a cycle


@pytest.mark.parametrize(
    ("upper", "lower"),
    [
        ("tasks", "data"),
        ("planning", "tasks"),
        ("evaluation", "tasks"),
        ("methods", "vision"),
        ("model", "runs"),
        ("model", "methods"),
        ("planning", "model"),
        ("probing", "planning"),
        ("training", "planning"),
        ("evaluation", "statistics"),
        ("cli", "config"),
    ],
)
def test_part_builds_on_another_and_not_the_reverse(
    upper: str, lower: str, needed: dict[str, set[str]]
) -> None:
    assert lower in all_needed(upper, needed)
    assert upper not in all_needed(lower, needed)


@pytest.mark.parametrize("part", ["storage", "statistics", "randomness", "errors"])
def test_lowest_parts_need_errors_alone(part: str, needed: dict[str, set[str]]) -> None:
    assert needed[part] <= {"errors"}


def test_hardly_any_module_stands_alone() -> None:
    single = {path.stem for path in ROOT.glob("*.py")} - {"__init__", "__main__"}
    assert {"errors", "randomness"} <= single
    assert len(single) <= MAX_SINGLE_MODULES


def test_planner_knows_single_methods_in_few_places() -> None:
    knowing = {
        path.stem
        for path in (ROOT / "planning").glob("*.py")
        if any(name.startswith(_METHODS_OF_THEIR_OWN) for name in imported_modules(path))
    }
    assert knowing == {"adem_formula", "paper_counts"}


_METHODS_OF_THEIR_OWN = tuple(
    f"ademvl.methods.{path.parent.name}." for path in (ROOT / "methods").glob("*/settings.py")
)


def places_asking_for(names: set[str], *, but_in: str) -> set[str]:
    """Where a name is compared with, outside of this part and of what checks recorded cases."""
    return {
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in ROOT.rglob("*.py")
        if path.relative_to(ROOT).parts[0] not in (but_in, "golden")
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Compare)
        for constant in ast.walk(node)
        if isinstance(constant, ast.Constant) and constant.value in names
    }


def test_only_a_methods_own_folder_asks_for_its_name() -> None:
    names = {path.parent.name for path in (ROOT / "methods").glob("*/settings.py")}
    assert {"adem", "memvp"} <= names
    assert not places_asking_for(names, but_in="methods")


def test_only_a_tasks_own_folder_asks_for_its_name() -> None:
    names = {*all_facts(), *(facts.evaluated_as for facts in all_facts().values())}
    asking = places_asking_for(names, but_in="tasks")
    known = {
        "config/dataset.py",  # COCO's images, which other data sets share: a source, no task
        "config/method_groups.py",  # the comparison of methods is about ScienceQA
        "prediction/lmms_plugin.py",  # a form of prompts that is called so
    }
    assert {place.partition(":")[0] for place in asking} == known, sorted(asking)


@pytest.mark.parametrize("name", task_folders())
def test_any_facts_may_be_the_first_that_are_imported(name: str) -> None:
    program = (
        f"import ademvl.tasks.{name}.facts\n"
        "from typing import get_args\n"
        "from ademvl.config.tasks import TaskName, all_facts\n"
        "print(*sorted({*all_facts()} & {*get_args(TaskName)}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT.parent
    )
    assert done.stdout.split() == sorted(all_facts())


def test_each_line_of_the_map_imports_from_those_above_it_only() -> None:
    text = (ROOT.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.partition("## Where things are")[2].partition("## From an image")[0]
    lines = [
        re.findall(r"`ademvl/(\w+)", line) for line in table.splitlines() if "`ademvl/" in line
    ]
    level = {part: number for number, parts in enumerate(lines) for part in parts}
    wrong = {
        f"{module_of(path)} -> {module}"
        for path in ROOT.rglob("*.py")
        for module in imported_modules(path)
        if path.parent != ROOT
        and module.count(".")
        and level[part_of(module)] > level[part_of(module_of(path))]
    }
    assert not wrong


def test_tasks_need_neither_torch_nor_a_model() -> None:
    program = (
        "import sys\n"
        "from ademvl.config.tasks import all_facts, task_folders\n"
        "from ademvl.tasks.registry import layout_of, task_named\n"
        "for name in all_facts(): task_named(name)\n"
        "for name in task_folders(): layout_of(name)\n"
        "print([name for name in ('torch', 'transformers', 'open_clip') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT.parent
    )
    assert done.stdout.strip() == "[]"


def test_settings_and_what_runs_left_are_read_without_torch() -> None:
    modules = [
        module_of(path) for part in ("config", "runs") for path in (ROOT / part).rglob("*.py")
    ]
    program = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "print([name for name in ('torch', 'transformers', 'open_clip') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT.parent,
    )
    assert done.stdout.strip() == "[]"


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
