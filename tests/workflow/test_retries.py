"""Protects that a training which a signal ended is begun again by the workflow, and goes on."""

import json
import signal
from pathlib import Path

import psutil
import pytest

from tests.waiting import wait_until
from tests.workflow.killing import snakemake

pytest.importorskip("easy_vqa", reason="the package easy-vqa is not installed")


@pytest.mark.slow
def test_ended_training_is_retried_and_goes_on(tmp_path: Path) -> None:
    run_dir = tmp_path / "results/smoke/runs/text_only/seed0"
    target = "results/smoke/runs/text_only/seed0/adapter/adapter.json"
    workflow = snakemake(tmp_path, "--retries", "1", "--", target)
    try:
        metrics = run_dir / "metrics.csv"
        wait_until(metrics.is_file, "the training has begun", processes=[workflow])
        for process in psutil.Process(workflow.pid).children(recursive=True):
            if "train" in process.cmdline()[:4] and "ademvl" in " ".join(process.cmdline()[:3]):
                process.send_signal(signal.SIGTERM)
    finally:
        printed, _ = workflow.communicate()
    assert workflow.returncode == 0, printed
    assert "exit code 75" in printed or "exit status 75" in printed
    assert "Trying to restart job" in printed
    provenance = json.loads((run_dir / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["usage"]["processes"] == 2
