"""Protects that the shipped default profile is in force without being named."""

import subprocess
import sys

from tests.conftest import PROJECT_ROOT


def test_default_profile_is_found_by_itself(tmp_path):
    command = [sys.executable, "-m", "snakemake", "-n", "--directory", str(tmp_path)]
    run = subprocess.run(
        [*command, "--snakefile", str(PROJECT_ROOT / "Snakefile")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert "profiles/default" in run.stdout + run.stderr
