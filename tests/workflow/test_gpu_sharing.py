"""Protects that trainings of one machine share its GPUs: one job on each, in turn, none starved.

The devices are pretended: CUDA_VISIBLE_DEVICES is taken at its word where there is no nvidia-smi,
and torch, which finds none, trains on the CPU.
"""

import itertools
import json
import os
import signal
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import PROJECT_ROOT
from tests.waiting import wait_until
from tests.workflow.killing import outcome, run_to_end, snakemake

pytest.importorskip("easy_vqa", reason="the package easy-vqa is not installed")

SMOKE = yaml.safe_load((PROJECT_ROOT / "workflow/studies/smoke.yaml").read_text("utf-8"))
RUNS = ("a", "b", "c", "d")


def write_study(folder: Path) -> Path:
    folder.mkdir()
    study = SMOKE | {"study": "shared", "runs": {name: {} for name in RUNS}}
    study["defaults"] = SMOKE["defaults"] | {"images": "withheld"}
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    return path


def provenance(folder: Path, run: str) -> dict[str, Any]:
    path = folder / f"results/shared/runs/{run}/seed0/provenance.json"
    return json.loads(path.read_text(encoding="utf-8"))


def logs(folder: Path) -> str:
    paths = sorted(folder.glob("results/shared/logs/train_run/*.log"))
    return "".join(path.read_text(encoding="utf-8") for path in paths)


def states(folder: Path) -> list[Path]:
    return list(folder.glob("results/shared/runs/*/seed0/state/*.json"))


def holder_of_device(locks: Path, run_dir: Path) -> int:
    """Process that trains a run, as the lock of its device says."""
    said = [path.read_text(encoding="utf-8") for path in locks.glob("gpu-*.lock")]
    holders = [json.loads(text) for text in said if text]  # none where one is just being taken
    [pid] = [holder["pid"] for holder in holders if holder["job"] == str(run_dir)]
    return pid


@pytest.mark.slow
def test_four_trainings_share_two_devices_and_a_killed_one_frees_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = write_study(tmp_path / "undisturbed")
    run_to_end(undisturbed.parent, "train", configfile=undisturbed)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    monkeypatch.setenv("ADEMVL_GPU_LOCKS", str(tmp_path / "locks"))
    study = write_study(tmp_path / "shared")
    options = ("--cores", "4", "--retries", "1", "--set-resources", "train_run:gpu=1")
    process = snakemake(study.parent, *options, "--", "train", configfile=study)
    wait_until(lambda: states(study.parent), "a training has saved a state", processes=[process])
    run_dir = states(study.parent)[0].parents[1].relative_to(study.parent)
    os.kill(holder_of_device(tmp_path / "locks", run_dir), signal.SIGKILL)
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    assert "Trying to restart job" in printed
    assert "waiting for 1 of the GPUs gpu-4, gpu-6: gpu-4 is used by results/shared/runs/" in logs(
        study.parent
    )
    by_device: dict[str, list[tuple[datetime, datetime]]] = {}
    for run in RUNS:
        record = provenance(study.parent, run)
        times = (datetime.fromisoformat(record[key]) for key in ("started", "ended"))
        by_device.setdefault(record["hardware"]["cuda_visible_devices"], []).append(tuple(times))
    assert by_device.keys() == {"4", "6"}
    for intervals in by_device.values():
        ordered = sorted(intervals)
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(ordered))
    assert outcome(study.parent / "results/shared") == outcome(
        undisturbed.parent / "results/shared"
    )
