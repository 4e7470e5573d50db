"""Protects how settings reach the workflow: from the command line, and in studies of many runs."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ademvl.config.study import load_study
from tests.conftest import PROJECT_ROOT
from tests.workflow.killing import SMOKE, run_to_end

_DOCUMENTED = re.compile(r"--config '([^']+)'")
LONGEST_SHELL_ARGUMENT = 128 * 1024  # Linux: MAX_ARG_STRLEN


def documented() -> list[str]:
    return _DOCUMENTED.findall((PROJECT_ROOT / "docs" / "settings.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize("setting", [*documented(), 'runs={"adem": {"seeds": [7]}}'])
def test_settings_of_the_command_line_change_the_default_study(
    tmp_path: Path, setting: str
) -> None:
    shutil.copy(PROJECT_ROOT / "config.yaml", tmp_path)
    command = [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(PROJECT_ROOT / "Snakefile")),
        *("--directory", str(tmp_path), "--cores", "1", "--dry-run", "--printshellcmds"),
        *("--config", setting, "--", "evaluate"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr
    assert "runs/text_only/seed1" in done.stdout  # what the setting does not name stays
    changed = {"datasets": '"train_questions": 2000', "runs": "runs/adem/seed7"}
    assert changed[setting.partition("=")[0]] in done.stdout


def test_study_may_be_longer_than_a_shell_argument(tmp_path: Path) -> None:
    raw = yaml.safe_load(SMOKE.read_text(encoding="utf-8"))
    raw["runs"] = {f"run{number}": {} for number in range(150)}
    given = tmp_path / "given.yaml"
    given.write_text(yaml.safe_dump(raw), encoding="utf-8")
    run_to_end(tmp_path, "results/smoke/study.yaml", configfile=given)
    written = tmp_path / "results/smoke/study.yaml"
    assert written.stat().st_size > LONGEST_SHELL_ARGUMENT
    assert load_study(written).runs == load_study(given).runs
