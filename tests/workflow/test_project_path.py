"""Protects that no part of the project's path is expanded by a shell."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ademvl.config.study import load_study
from ademvl.errors import SettingsError
from ademvl.workflow.start import check_workflow
from tests.conftest import PROJECT_ROOT
from tests.workflow.killing import SMOKE

NAMES = ["a$b", "it's a$b", 'say "a$b"', "a b;c"]
"""All of them harmless, whatever a shell makes of them."""


@pytest.mark.parametrize("name", NAMES)
def test_settings_of_a_project_in_an_odd_folder_are_written(tmp_path: Path, name: str) -> None:
    project = tmp_path / name
    project.mkdir()
    shutil.copy(PROJECT_ROOT / "Snakefile", project)
    for folder in ("workflow", "envs"):
        shutil.copytree(PROJECT_ROOT / folder, project / folder)
    command = [sys.executable, "-m", "snakemake", "results/smoke/study.yaml", "--cores", "1"]
    command += ["--configfile", "workflow/studies/smoke.yaml"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert load_study(project / "results/smoke/study.yaml").runs == load_study(SMOKE).runs
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_no_rule_is_started_again_through_a_shell() -> None:
    rules = [*(PROJECT_ROOT / "workflow/rules").glob("*.smk"), PROJECT_ROOT / "Snakefile"]
    assert not [path for path in rules if re.search(r"^ +run:", path.read_text("utf-8"), re.M)]


def workflow_in(folder: str, *, is_local: bool) -> SimpleNamespace:
    return SimpleNamespace(
        local_exec=is_local,
        main_snakefile=f"{folder}/Snakefile",
        configfiles=[],
        executor_settings=None,
        execution_settings=SimpleNamespace(),
        scheduler=SimpleNamespace(job_rate_limiter="100/1s"),
    )


@pytest.mark.parametrize("character", ["$", "`", '"', "'", "\\", "\n"])
def test_jobs_are_not_submitted_with_a_path_that_a_shell_would_expand(character: str) -> None:
    folder = f"/home/a{character}b"
    with pytest.raises(SettingsError) as refused:
        check_workflow(workflow_in(folder, is_local=False))
    assert f"{folder + '/Snakefile'!r} holds {character!r}" in str(refused.value)
    check_workflow(workflow_in(folder, is_local=True))


@pytest.mark.parametrize("is_local", [True, False])
def test_a_limit_of_starts_a_second_is_for_clusters_alone(is_local: bool) -> None:
    workflow = workflow_in("/home/a", is_local=is_local)
    check_workflow(workflow)
    assert (workflow.scheduler.job_rate_limiter is None) == is_local


def test_jobs_are_submitted_from_usual_folders() -> None:
    check_workflow(workflow_in("/home/a b/ü-1.2_(new)", is_local=False))
