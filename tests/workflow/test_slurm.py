"""Protects studies on a real Slurm, whose jobs are cancelled, killed and run out of time.

Whatever happens, the results are those of the same study run locally without any disturbance.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.conftest import PROJECT_ROOT
from tests.workflow.killing import outcome, run_to_end
from tests.workflow.slurm_cluster import ClusterError, SlurmCluster, skip_without_slurm

pytest.importorskip("snakemake_executor_plugin_slurm", reason="the extra `cluster` is missing")
pytestmark = pytest.mark.slow

PROFILES = PROJECT_ROOT / "workflow/profiles"
SMOKE = yaml.safe_load((PROJECT_ROOT / "workflow/studies/smoke.yaml").read_text("utf-8"))
WAIT_SECONDS = 240.0
ADAPTER = Path("results/cluster/runs/run/seed0/adapter/adapter.safetensors")


@pytest.fixture(scope="module")
def cluster() -> Iterator[SlurmCluster]:
    skip_without_slurm()
    cluster = SlurmCluster()
    try:
        try:
            cluster.start()
        except ClusterError as error:
            pytest.skip(f"Slurm does not start here: {error}")
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
    raw["default-resources"] = {"slurm_account": "nobody"}
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


def check_same_as_local(
    tmp_path: Path, study: Path, submitted: Path, name: str = "cluster", target: str = "evaluate"
) -> None:
    local = tmp_path / "local"
    local.mkdir()
    run_to_end(local, target, configfile=study)
    expected = outcome(local / "results" / name)
    assert expected
    assert outcome(submitted / "results" / name) == expected


def test_short_form_a_cancelled_job_comes_again_and_goes_on(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    study = write_study(tmp_path / "study.yaml", {"cancelled": {}})
    process = submit(cluster, tmp_path, study, write_profile(tmp_path / "profile"), "evaluate")
    wait_until(has_state(tmp_path, "cancelled"), process)
    cluster.run("scancel", *cluster.jobs("train_run"))
    printed = finish(process)
    assert "SLURM status is: 'CANCELLED'" in printed
    assert "it is tried again" in printed
    assert "going on after step" in log_of(tmp_path, "cancelled")
    check_same_as_local(tmp_path, study, tmp_path)


def pids_of_training(folder: Path, run: str) -> list[int]:
    """Processes of `ademvl train` that work in the folder on this run."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        with contextlib.suppress(psutil.Error):
            if f"runs/{run}/seed0" in " ".join(words) and "train" in words:
                found += [process.pid] if process.cwd() == str(folder) else []
    return found


def test_killed_and_timed_out_trainings_go_on_while_the_controller_is_away(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    longer = {"optimization": {"epochs": 8.0}}
    study = write_study(tmp_path / "study.yaml", {"killed": {}, "limited": longer, "gpu": {}})
    of_run = "{!r} if wildcards.run == {!r} else {!r}"
    profile = write_profile(
        tmp_path / "profile",
        train_run={
            "runtime": "attempt if wildcards.run == 'limited' else 60",
            "slurm_extra": "'--signal=TERM@20'",
            "slurm_partition": of_run.format("gpu", "gpu", "cpu"),
            "gpu": "1 if wildcards.run == 'gpu' else 0",
        },
    )
    process = submit(cluster, tmp_path, study, profile, "evaluate")
    wait_until(has_state(tmp_path, "killed"), process)
    for pid in pids_of_training(tmp_path, "killed"):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(cluster.jobs("train_run")) >= 2, process)
    time.sleep(10.0)
    cluster.stop_controller()
    time.sleep(20.0)
    cluster.start_controller()
    printed = finish(process)
    assert "SLURM status is: 'FAILED'" in printed
    assert "going on after step" in log_of(tmp_path, "killed")
    assert "TIMEOUT" in printed or "going on after step" in log_of(tmp_path, "limited")
    path = tmp_path / "results/cluster/runs/gpu/seed0/provenance.json"
    hardware = json.loads(path.read_text(encoding="utf-8"))["hardware"]
    assert hardware["cuda_visible_devices"] in ("0", "1")
    check_same_as_local(tmp_path, study, tmp_path)


def test_preempted_training_waits_for_its_turn_and_goes_on(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    study = write_study(tmp_path / "study.yaml", {"preempted": {}})
    process = submit(cluster, tmp_path, study, write_profile(tmp_path / "profile"), "evaluate")
    wait_until(has_state(tmp_path, "preempted"), process)
    jobs = cluster.jobs("train_run")
    urgent = ("--partition=urgent", "--exclusive", f"--output={tmp_path}/urgent.log")
    cluster.run("sbatch", "--wait", *urgent, "--wrap", "sleep 5")
    printed = finish(process)
    assert "it is tried again" not in printed
    assert "Restarts=1 " in cluster.run("scontrol", "show", "job", jobs[0])
    assert "going on after step" in log_of(tmp_path, "preempted")
    check_same_as_local(tmp_path, study, tmp_path)


def test_command_that_was_killed_is_given_again_while_its_jobs_go_on(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    study = write_study(tmp_path / "study.yaml", {"orphaned": {}})
    profile = write_profile(tmp_path / "profile")
    process = submit(cluster, tmp_path, study, profile, "evaluate")
    wait_until(has_state(tmp_path, "orphaned"), process)
    process.kill()
    process.communicate()
    jobs = cluster.jobs("train_run")
    assert len(jobs) == 1
    finish(submit(cluster, tmp_path, study, profile, "evaluate"))
    assert "ExitCode=0:0" in cluster.run("scontrol", "show", "job", jobs[0])
    check_same_as_local(tmp_path, study, tmp_path)


def test_whole_mini_study_gives_the_results_of_one_machine(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    study = PROJECT_ROOT / "config.yaml"
    finish(submit(cluster, tmp_path, study, write_profile(tmp_path / "profile"), "all"))
    assert (tmp_path / "results/mini/report/index.html").is_file()
    check_same_as_local(tmp_path, study, tmp_path, "mini", "all")


def test_two_processes_in_one_job_and_across_machines_train_as_one(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    halves = {"optimization": {"per_device_batch_size": 4}}
    study = write_study(tmp_path / "study.yaml", {"run": halves})
    local = tmp_path / "local"
    local.mkdir()
    run_to_end(local, "train", configfile=study)
    together = {"launcher": "'torchrun --standalone --nproc-per-node 2 --no-python'"}
    apart = {"slurm_partition": "both", "gpu": 0, "tasks_per_gpu": 0}
    for name, base, resources in (
        ("one_job", "slurm", together),
        ("two_machines", "slurm-multinode", apart),
    ):
        folder = tmp_path / name
        folder.mkdir()
        profile = write_profile(folder / "profile", base, train_run=resources)
        finish(submit(cluster, folder, study, profile, "train"))
        assert (folder / ADAPTER).read_bytes() == (local / ADAPTER).read_bytes()
        provenance = json.loads(
            (folder / ADAPTER).parents[1].joinpath("provenance.json").read_text()
        )
        assert provenance["parallel_processes"] == 2


@pytest.mark.parametrize("launcher", ["ademvl", "torchrun"])
def test_documented_commands_train_across_machines(
    cluster: SlurmCluster, tmp_path: Path, launcher: str
) -> None:
    halves = {"optimization": {"per_device_batch_size": 4}}
    study = write_study(tmp_path / "study.yaml", {"run": halves})
    local = tmp_path / "local"
    local.mkdir()
    run_to_end(local, "train", configfile=study)
    run_folder = ADAPTER.parents[1]
    run_to_end(tmp_path, "data", str(run_folder / "run.yaml"), configfile=study)
    text = (PROJECT_ROOT / "docs/clusters.md").read_text(encoding="utf-8")
    [command] = re.findall(rf"^srun --nodes=2 .*node=1 {launcher} .*$", text, flags=re.MULTILINE)
    command = command.replace("results/mini/runs/adem/seed0", str(run_folder))
    command = command.replace("$(scontrol show hostnames | head -n 1)", "127.0.0.1")
    options = ("--partition=both", "--nodes=2", f"--chdir={tmp_path}", "--output=out.log")
    cluster.run("sbatch", "--wait", *options, "--wrap", command)
    assert (tmp_path / ADAPTER).exists(), (tmp_path / "out.log").read_text(encoding="utf-8")
    assert (tmp_path / ADAPTER).read_bytes() == (local / ADAPTER).read_bytes()
    provenance = json.loads((tmp_path / run_folder / "provenance.json").read_text())
    assert provenance["parallel_processes"] == 2


def test_generic_profile_submits_to_slurm(cluster: SlurmCluster, tmp_path: Path) -> None:
    study = write_study(tmp_path / "study.yaml", {"run": {}})
    raw = yaml.safe_load((PROFILES / "generic/config.yaml").read_text("utf-8"))
    shutil.copytree(PROFILES / "generic", tmp_path / "workflow/profiles/generic")
    raw["latency-wait"] = 20
    profile = tmp_path / "workflow/profiles/generic"
    (profile / "config.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    process = submit(cluster, tmp_path, study, profile, "evaluate")
    wait_until(has_state(tmp_path, "run"), process)
    jobs = cluster.run("squeue", "-h", "-o", "%i %j").splitlines()
    cluster.run("scancel", *(job.split()[0] for job in jobs if "train_run" in job))
    assert "it is tried again" in finish(process)
    check_same_as_local(tmp_path, study, tmp_path)
