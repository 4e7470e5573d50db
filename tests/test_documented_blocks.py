"""Protects the copy-paste blocks of docs/clusters.md: they do what the page says, line by line."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ademvl.workflow.profile import read_profile
from tests.conftest import PROJECT_ROOT

pytest.importorskip("snakemake_executor_plugin_slurm", reason="the extra `cluster` is missing")

PAGE = PROJECT_ROOT / "docs/clusters.md"


def blocks() -> list[list[str]]:
    text = PAGE.read_text(encoding="utf-8")
    found = re.findall(r"^```bash\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return [block.splitlines() for block in found]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project, without results; its workflow may be changed."""
    for name in ("Snakefile", "config.yaml", "ademvl", "envs"):
        (tmp_path / name).symlink_to(PROJECT_ROOT / name)
    shutil.copytree(PROJECT_ROOT / "workflow", tmp_path / "workflow")
    (tmp_path / "profiles").symlink_to("workflow/profiles")
    return tmp_path


def run(line: str, folder: Path) -> str:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    finished = subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env=os.environ | {"PATH": path, "PYTHONPATH": str(PROJECT_ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout + finished.stderr


@pytest.mark.parametrize("name", ["mycluster", "mypbs"])
def test_profile_is_copied_edited_and_understood(copy: Path, name: str) -> None:
    lines = next(block for block in blocks() if any(name in line for line in block))
    for line in lines:
        if line.startswith(("cp ", "sed ")):
            run(line, copy)
    dry_run = next(line for line in lines if line.endswith("--dry-run"))
    assert "train_run" in run(dry_run, copy)
    profile = read_profile(str(copy / "workflow/profiles" / name))
    if name == "mycluster":
        assert profile.default_resources["slurm_account"] == "physics"
        assert profile.set_resources["train_run"]["slurm_partition"] == "gpu"
        assert "slurm_partition" not in profile.set_resources["write_tables"]
    else:
        script = profile.options["cluster-generic-submit-cmd"].split()[0]
        assert os.access(copy / script, os.X_OK)


def test_every_line_is_of_a_known_kind() -> None:
    known = ("pip install ", "cp ", "sed ", "ademvl ", "snakemake ", "srun ")
    assert all(line.startswith(known) for block in blocks() for line in block)
