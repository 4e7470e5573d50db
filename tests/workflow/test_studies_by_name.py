"""Protects how users name studies: by file, by name, and nearly right."""

import subprocess
import sys
from pathlib import Path

import pytest

from ademvl.errors import SettingsError
from ademvl.workflow.studies import find_study, known_studies
from tests.conftest import PROJECT_ROOT


def test_shipped_studies_are_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_study(None) == PROJECT_ROOT / "config.yaml"
    assert find_study("mini") == PROJECT_ROOT / "config.yaml"
    assert find_study("paper-7b") == PROJECT_ROOT / "workflow/studies/paper-7b.yaml"
    names = {path.stem for path in (PROJECT_ROOT / "workflow/studies").glob("*.yaml")}
    assert known_studies().keys() == {"mini", *names}


def test_a_study_of_the_folder_stands_before_a_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = Path("workflow/studies/smoke.yaml")
    own.parent.mkdir(parents=True)
    own.touch()
    Path("config.yaml").touch()
    assert find_study("smoke") == own
    assert find_study(None) == Path("config.yaml")


@pytest.mark.parametrize("name", ["paper7b", "paper7b.yaml", "workflow/studies/paper7b.yaml"])
def test_a_mistyped_study_gets_the_nearest(name: str) -> None:
    with pytest.raises(SettingsError, match=r"did you mean paper-7b\?"):
        find_study(name)


@pytest.mark.parametrize(
    ("named", "told"),
    [
        (["paper7b.yaml"], "did you mean paper-7b? It is "),
        (["config.yaml", "evaluate"], "\n--configfile takes all words behind it for files"),
    ],
)
def test_snakemake_itself_names_the_nearest_without_a_traceback(
    named: list[str], told: str
) -> None:
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--configfile", *named]
    run = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert f"{named[-1]}: no study file, and no study of this name" in run.stderr
    assert told in run.stderr
    assert "Traceback" not in run.stderr
