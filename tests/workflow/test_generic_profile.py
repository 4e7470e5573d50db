"""Protects how jobs reach schedulers other than Slurm, by programs that note their calls."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import PROJECT_ROOT

SCRIPTS = PROJECT_ROOT / "workflow/profiles/generic"


def fake(folder: Path, name: str, *, prints: str = "", code: int = 0) -> None:
    """A program that notes its arguments in <name>.called, prints and ends."""
    (folder / name).write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > {folder}/{name}.called\n'
        f"cat <<'END'\n{prints}\nEND\nexit {code}\n"
    )
    (folder / name).chmod(0o755)


def run(folder: Path, script: str, *arguments: str, **environ: str) -> str:
    path = f"{folder}:{folder / 'system'}"
    (folder / "system").mkdir(exist_ok=True)
    for name in ("bash", "mkdir", "cat", "grep", "head"):
        link = folder / "system" / name
        if not link.exists():
            link.symlink_to(f"/usr/bin/{name}")
    finished = subprocess.run(
        ["/usr/bin/bash", SCRIPTS / script, *arguments],
        cwd=folder,
        env={"PATH": path, **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    return finished.stdout.strip() or finished.stderr.strip()


def called(folder: Path, name: str) -> str:
    return " ".join((folder / f"{name}.called").read_text().split("\n")).strip()


JOB = ("ademvl-train_run", "2", "3000", "90", "1", "job.sh")


def test_slurm(tmp_path: Path) -> None:
    fake(tmp_path, "sbatch", prints="17")
    assert run(tmp_path, "submit.sh", *JOB) == "17"
    assert called(tmp_path, "sbatch") == (
        "--parsable --job-name=ademvl-train_run --cpus-per-task=2 --mem=3000 --time=90"
        " --output=.snakemake/cluster-logs/%j.log --gpus=1 job.sh"
    )


def test_lsf_prints_the_number_alone(tmp_path: Path) -> None:
    fake(tmp_path, "bsub", prints="Job <17> is submitted to queue <normal>.")
    assert run(tmp_path, "submit.sh", *JOB) == "17"
    assert called(tmp_path, "bsub") == (
        "-J ademvl-train_run -n 2 -R span[hosts=1] rusage[mem=3000MB] -W 90"
        " -oo .snakemake/cluster-logs/%J.log -gpu num=1 job.sh"
    )


def test_pbs_gets_hours_and_minutes(tmp_path: Path) -> None:
    fake(tmp_path, "qsub", prints="17.server")
    assert run(tmp_path, "submit.sh", *JOB) == "17.server"
    assert called(tmp_path, "qsub") == (
        "-V -j oe -N ademvl-train_ru -o .snakemake/cluster-logs/"
        " -l select=1:ncpus=2:mem=3000mb:ngpus=1 -l walltime=1:30:00 job.sh"
    )


def test_sge_is_told_by_its_root(tmp_path: Path) -> None:
    fake(tmp_path, "qsub", prints="17")
    job = (*JOB[:4], "0", "job.sh")
    assert run(tmp_path, "submit.sh", *job, SGE_ROOT="/opt/sge") == "17"
    assert called(tmp_path, "qsub") == (
        "-terse -cwd -V -j y -N ademvl-train_run -o .snakemake/cluster-logs/ -pe smp 2"
        " -l h_rt=1:30:00 -l mem_free=3000M job.sh"
    )


def test_machine_without_scheduler_is_said_so(tmp_path: Path) -> None:
    assert "none of sbatch, bsub, qsub is here" in run(tmp_path, "submit.sh", *JOB)


@pytest.mark.parametrize(
    ("program", "prints", "code", "expected"),
    [
        ("squeue", "COMPLETED", 0, "success"),
        ("squeue", "PENDING", 0, "running"),
        ("squeue", "TIMEOUT", 0, "failed"),
        ("squeue", "CANCELLED", 0, "failed"),
        ("squeue", "slurm_load_jobs error: Invalid job id specified", 1, "failed"),
        ("squeue", "slurm_load_jobs error: Unable to contact slurm controller", 1, "running"),
        ("bjobs", "DONE", 0, "success"),
        ("bjobs", "EXIT", 0, "failed"),
        ("bjobs", "PEND", 0, "running"),
        ("qstat", "    job_state = F\n    Exit_status = 0", 0, "success"),
        ("qstat", "    job_state = F\n    Exit_status = 271", 0, "failed"),
        ("qstat", "    job_state = R", 0, "running"),
        ("qstat", "", 1, "running"),
    ],
)
def test_status_is_one_of_three_words(
    tmp_path: Path, program: str, prints: str, code: int, expected: str
) -> None:
    submits = {"squeue": "sbatch", "bjobs": "bsub", "qstat": "qsub"}[program]
    fake(tmp_path, submits)
    fake(tmp_path, program, prints=prints, code=code)
    assert run(tmp_path, "status.sh", "17") == expected


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ("failed       0\nexit_status  0", "success"),
        ("failed       0\nexit_status  1", "failed"),
        ("failed       100 : assumedly after job\nexit_status  0", "failed"),
    ],
)
def test_status_of_sge_is_in_its_records(tmp_path: Path, record: str, expected: str) -> None:
    fake(tmp_path, "qstat", code=1)
    fake(tmp_path, "qacct", prints=record)
    assert run(tmp_path, "status.sh", "17", SGE_ROOT="/opt/sge") == expected


def test_scripts_are_executable() -> None:
    assert all(os.access(script, os.X_OK) for script in SCRIPTS.glob("*.sh"))
