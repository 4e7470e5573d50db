"""Protects studies on a real Slurm, whose jobs are cancelled, killed and run out of time.

Whatever happens, the results are those of the same study run locally without any disturbance.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import PROJECT_ROOT
from tests.workflow.killing import outcome, run_to_end
from tests.workflow.slurm_cluster import SlurmCluster, skip_without_slurm

pytest.importorskip("snakemake_executor_plugin_slurm", reason="the extra `cluster` is missing")
pytestmark = pytest.mark.slow

PROFILES = PROJECT_ROOT / "workflow/profiles"
SMOKE = yaml.safe_load((PROJECT_ROOT / "workflow/studies/smoke.yaml").read_text("utf-8"))
WAIT_SECONDS = 240.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[SlurmCluster]:
    skip_without_slurm()
    cluster = SlurmCluster()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def write_study(path: Path, runs: dict[str, Any]) -> Path:
    """Write a study of trainings on text alone, the quickest there are."""
    defaults = SMOKE["defaults"] | {"images": "withheld"}
    study = SMOKE | {"study": "cluster", "defaults": defaults, "runs": runs}
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    return path


def write_profile(folder: Path, name: str = "slurm", **set_resources: dict[str, Any]) -> Path:
    """Write a shipped profile with shorter waits, and with other resources of some rules."""
    raw = yaml.safe_load((PROFILES / name / "config.yaml").read_text("utf-8"))
    raw["slurm-init-seconds-before-status-checks"] = 4
    raw["latency-wait"] = 20
    raw["default-resources"]["slurm_account"] = "nobody"
    for rule, resources in set_resources.items():
        raw["set-resources"][rule] = raw["set-resources"].get(rule, {}) | resources
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    return folder


def submit(
    cluster: SlurmCluster, folder: Path, study: Path, profile: Path, *targets: str
) -> subprocess.Popen[str]:
    command = [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(PROJECT_ROOT / "Snakefile")),
        *("--directory", str(folder), "--configfile", str(study)),
        *("--workflow-profile", str(profile), "--", *targets),
    ]
    return subprocess.Popen(
        command,
        text=True,
        env=os.environ | cluster.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(process: subprocess.Popen[str]) -> str:
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    return printed


def wait_until(is_so: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_so():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(process.communicate()[0])
        time.sleep(0.1)


def has_state(folder: Path, run: str) -> Callable[[], bool]:
    return lambda: bool(list(folder.glob(f"results/cluster/runs/{run}/seed0/state/*.json")))


def log_of(folder: Path, run: str) -> str:
    path = folder / f"results/cluster/logs/train_run/{run}_seed0.log"
    return path.read_text(encoding="utf-8")


def check_same_as_local(tmp_path: Path, study: Path, submitted: Path) -> None:
    local = tmp_path / "local"
    local.mkdir()
    run_to_end(local, "evaluate", configfile=study)
    expected = outcome(local / "results/cluster")
    assert expected
    assert outcome(submitted / "results/cluster") == expected


def test_short_form_a_cancelled_job_comes_again_and_goes_on(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    study = write_study(tmp_path / "study.yaml", {"cancelled": {}})
    process = submit(cluster, tmp_path, study, write_profile(tmp_path / "profile"), "evaluate")
    wait_until(has_state(tmp_path, "cancelled"), process)
    cluster.run("scancel", *cluster.jobs("train_run"))
    printed = finish(process)
    assert "SLURM status is: 'CANCELLED'" in printed
    assert "Trying to restart job" in printed
    assert "going on after step" in log_of(tmp_path, "cancelled")
    check_same_as_local(tmp_path, study, tmp_path)
