"""Protects installation without a clone: the wheel brings all that a study needs to run."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.conftest import PROJECT_ROOT

FOLDERS = ("ademvl", "snakemake_logger_plugin_ademvl", "workflow", "envs", "docs")
FILES = (
    "Snakefile",
    "config.yaml",
    "pyproject.toml",
    "setup.py",
    "MANIFEST.in",
    "README.md",
    "LICENSE",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this working tree, built beside it."""
    source = tmp_path_factory.mktemp("source")
    for folder in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT_ROOT / folder, source / folder, ignore=ignored)
    for file in FILES:
        shutil.copyfile(PROJECT_ROOT / file, source / file)
    command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation"]
    run = subprocess.run(
        [*command, "--quiet", "--wheel-dir", "dist"],
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
    )
    if "No module named" in run.stderr:
        pytest.skip("pip or setuptools is not installed")
    assert run.returncode == 0, run.stderr
    (built,) = (source / "dist").glob("*.whl")
    return built


def test_wheel_has_what_the_package_reads_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    project = {name.partition("/project/")[2] for name in names if "/project/" in name}
    tracked = [
        path.relative_to(PROJECT_ROOT)
        for path in (PROJECT_ROOT / "workflow").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    needed = {"Snakefile", "config.yaml", "docs/deviations.md", "profiles/default/config.yaml"}
    assert project >= {*map(str, tracked), *needed}
    assert "snakemake_logger_plugin_ademvl/__init__.py" in names
    assert "ademvl/reporting/templates/page.html.j2" in names
    assert "ademvl/golden/recorded_cases.tar.xz" in names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "build/"))]


@pytest.mark.slow
def test_smoke_study_runs_from_the_wheel_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    python = installed(wheel, tmp_path / "venv")
    folder = tmp_path / "empty"
    folder.mkdir()
    run = subprocess.run(
        [python.parent / "ademvl", "run", "smoke"],
        cwd=folder,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "Study smoke" in run.stdout
    assert (folder / "results/smoke/report/index.html").is_file()
    lines = (run.stdout + run.stderr).splitlines()
    jobs = [line for line in lines if line.startswith("[") and ": done in" in line]
    assert len(jobs) == 16
    told = [line for line in lines[: lines.index(jobs[-1])] if line not in jobs]
    assert not [line for line in told if "rule " in line or "reason" in line]


def installed(wheel: Path, folder: Path) -> Path:
    """Install the wheel alone in a venv that sees the packages of this one; return its Python."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps"]
    subprocess.run([*command, "--quiet", str(wheel)], check=True, env=_environment())
    (place,) = folder.glob("lib/python*/site-packages")
    (place / "outer.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return python


def _environment() -> dict[str, str]:
    """Return the environment without other places of this package."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
