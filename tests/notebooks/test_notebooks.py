"""Protects the notebooks: committed without outputs, of commands that are there, and they run."""

import ast
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from ademvl.cli import _parser
from ademvl.config.study import load_study
from tests.conftest import PROJECT_ROOT

nbformat = pytest.importorskip("nbformat", reason="the package nbclient is missing")

FOLDER = PROJECT_ROOT / "docs/notebooks"
NAMES = sorted(path.name for path in FOLDER.glob("*.ipynb"))


def read(name: str) -> Any:
    return nbformat.read(FOLDER / name, as_version=4)


def code_cells(name: str) -> list[str]:
    return [cell.source for cell in read(name).cells if cell.cell_type == "code"]


@pytest.mark.parametrize("name", NAMES)
def test_notebook_is_whole_and_has_no_outputs(name: str) -> None:
    notebook = read(name)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.outputs for cell in cells] == [[]] * len(cells)
    assert {cell.execution_count for cell in cells} == {None}


@pytest.mark.parametrize("name", NAMES)
def test_commands_and_python_are_understood(name: str) -> None:
    num_commands = 0
    for cell in code_cells(name):
        for line in re.findall(r"^ *!(ademvl .*)", cell, flags=re.MULTILINE):
            filled = line.replace("{STUDY}", "mini").replace("{SCORES}", "tables")
            arguments = shlex.split(filled)[1:]
            assert _parser().parse_args(arguments).verb == arguments[0]
            num_commands += 1
        if not cell.startswith("%%"):
            ast.parse(re.sub(r"^( *)[!%].*", r"\1pass", cell, flags=re.MULTILINE))
    assert num_commands


def test_study_of_the_report_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cell,) = (cell for cell in code_cells("report_colab.ipynb") if cell.startswith("%%writefile"))
    head, _, content = cell.partition("\n")
    (tmp_path / "workflow").symlink_to(PROJECT_ROOT / "workflow")
    monkeypatch.chdir(tmp_path)
    file = Path(head.split()[1])
    file.write_text(content, encoding="utf-8")
    study, original = load_study(file), load_study(Path("workflow/studies/report-colab.yaml"))
    assert [run.name for run in study.runs] == [run.name for run in original.runs]
    assert {run.optimization.per_device_batch_size for run in study.runs} == {1}
    assert [run.optimization.lr for run in study.runs] == [
        run.optimization.lr for run in original.runs
    ]


@pytest.mark.slow
def test_mini_notebook_runs_and_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = pytest.importorskip("nbclient", reason="the package nbclient is missing")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(PROJECT_ROOT))
    notebook = read("mini.ipynb")
    for cell in notebook.cells:
        cell.source = cell.source.replace('STUDY = "mini"', 'STUDY = "smoke"')
    resources = {"metadata": {"path": str(tmp_path)}}
    client.NotebookClient(notebook, timeout=3600, resources=resources).execute()
    outputs = [
        output.get("data", {}) | ({"text": output.text} if "text" in output else {})
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    ]
    tables = [data["text/markdown"] for data in outputs if "text/markdown" in data]
    assert any("| ADEM-VL, cached features" in table for table in tables)
    assert not any("Reported:" in table for table in tables)
    pictures = [data for data in outputs if "image/png" in data]
    assert len(pictures) == 2 + 3  # the curve, the sheet; color, shape and the answer
    assert (tmp_path / "results/smoke/tables/accuracy.md").is_file()
