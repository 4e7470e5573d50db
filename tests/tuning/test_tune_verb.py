"""Protects `ademvl tune`: from nothing to a table, also when it is killed; what it refuses.

The slow test makes the data by the workflow and trains with the shipped backbones.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ademvl.cli import main
from ademvl.config.study import load_study
from tests.conftest import PROJECT_ROOT
from tests.waiting import wait_until

STUDY = {
    "study": "tuned",
    "include": [str(PROJECT_ROOT / "workflow/studies/smoke.yaml")],
    "only": ["adem"],
    "datasets": {"easy_vqa_smoke": {"train_questions": 96, "val_questions": 20}},
    "tune": {
        "run": "adem",
        "trials": 3,
        "rungs": 2,
        "space": {
            "optimization.base_lr": {"low": 0.01, "high": 0.3, "log": True},
            "method.scales": {"choices": [[64], [64, 16]]},
        },
    },
}


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ademvl", "tune", "mine.yaml", "--threads", "1", *arguments],
        cwd=folder,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finished(folder: Path) -> int:
    """How many trials stand in the file of the search; the first line is its beginning."""
    files = list(folder.glob("results/tuned/tune/adem_*/trials.journal"))
    return max(0, files[0].read_bytes().count(b"\n") - 1) if files else 0


@pytest.mark.slow
def test_from_nothing_to_a_table_though_killed(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="the extra `tune` is missing")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(STUDY), encoding="utf-8")
    killed = start(tmp_path)
    wait_until(lambda: finished(tmp_path), "a trial is finished", processes=[killed])
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    before = finished(tmp_path)
    ended = start(tmp_path)
    printed, log = ended.communicate()
    assert ended.returncode == 0, log
    assert "data set" not in log  # it is there
    assert f"trial {before - 1}" not in log
    assert printed.startswith("3 of 3 trials of run adem, ")
    assert "\nruns:\n  adem:\n" in printed
    read, _ = start(tmp_path, "--minutes", "0").communicate()
    assert read == printed


def test_study_without_a_search_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "smoke"]) == 2
    assert "study smoke has no `tune`: name a run" in capsys.readouterr().err


def test_missing_optuna_is_told_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(STUDY), encoding="utf-8")
    assert main(["tune", str(tmp_path / "mine.yaml")]) == 2
    assert "pip install 'ademvl[tune]'" in capsys.readouterr().err


def test_help_shows_a_search_that_is_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["tune", "--help"])
    shown = capsys.readouterr().out
    block = shown[shown.index("  tune:\n") : shown.index("Each trial is trained")]
    file = tmp_path / "mine.yaml"
    content = yaml.safe_dump({key: STUDY[key] for key in ("study", "include")})
    file.write_text(content + "".join(f"{line[2:]}\n" for line in block.splitlines()))
    assert load_study(file).settings.tune.run == "adem"
