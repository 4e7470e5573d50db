"""Protects a workflow's start: results of other settings or data are told, and made again."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest
import yaml

from ademvl.config.study import load_study
from ademvl.errors import SettingsError
from ademvl.runs.versions import RESULT_VERSIONS
from ademvl.storage.files import sha256_file, write_json
from ademvl.workflow.notices import notice_changes
from ademvl.workflow.start_checks import refuse_changed_data, refuse_future_times, refuse_touch
from tests.bundle.finished import FinishedStudy
from tests.waiting import wait_until
from tests.workflow.killing import SMOKE, run_to_end, snakemake


@pytest.fixture
def study(tmp_path: Path) -> FinishedStudy:
    found = FinishedStudy(tmp_path)
    for run in found.finish().glob("runs/*/seed*"):
        for verb in ("train", "evaluate"):
            write_json(run / "settings" / f"{verb}.json", {})
    return found


def told(study: FinishedStudy) -> str:
    return "\n".join(notice_changes(load_study(study.raw)))


def markers(study: FinishedStudy, verb: str) -> dict[str, str]:
    """Content of settings/<verb>.json, whose change reruns a job, by run."""
    root = study.root / "results/tiny/runs"
    found = root.glob(f"*/seed0/settings/{verb}.json")
    return {path.parents[2].name: path.read_text() for path in found}


def change_problems(study: FinishedStudy, split: str) -> None:
    path = study.data / "problems.json"
    problems = json.loads(path.read_text())
    for problem in problems.values():
        if problem["split"] == split:
            problem["answer"] = 1 - problem["answer"]
    path.write_text(json.dumps(problems))


def test_nothing_is_said_of_results_of_the_present_study_and_data(study: FinishedStudy) -> None:
    before = markers(study, "evaluate"), markers(study, "train")
    assert told(study) == ""
    assert (markers(study, "evaluate"), markers(study, "train")) == before


def test_nothing_is_said_before_anything_was_run(tmp_path: Path) -> None:
    assert told(FinishedStudy(tmp_path)) == ""


def test_other_images_evaluate_again_and_only_once(study: FinishedStudy) -> None:
    first, second, *_ = sorted(study.data.glob("images/test/*/*.png"))
    first.write_bytes(second.read_bytes())
    trained, before = markers(study, "train"), markers(study, "evaluate")
    expected = (
        "adem/seed0, adem/seed1, other/seed0: scored on other images than data set squares holds "
        "now, evaluated again"
    )
    assert told(study) == expected
    changed = markers(study, "evaluate")
    assert all(changed[run] != before[run] for run in before)
    assert told(study) == expected
    assert markers(study, "evaluate") == changed
    assert markers(study, "train") == trained


def test_other_training_data_trains_again(study: FinishedStudy) -> None:
    change_problems(study, "train")
    evaluated, before = markers(study, "evaluate"), markers(study, "train")
    assert "trained before files of the data set changed, trained again" in told(study)
    assert all(text != before[run] for run, text in markers(study, "train").items())
    assert markers(study, "evaluate") == evaluated


def test_scores_changed_by_hand_are_told_and_made_again(study: FinishedStudy) -> None:
    path = study.root / "results/tiny/runs/other/seed0/scores/scienceqa.json"
    scores = json.loads(path.read_text())
    scores["columns"]["AVG"]["percent"] = 99.9
    path.write_text(json.dumps(scores))
    before = markers(study, "evaluate")
    assert "other/seed0: AVG: percent 99.9 is outside its interval" in told(study)
    after = markers(study, "evaluate")
    assert {run for run in before if after[run] != before[run]} == {"other"}


def test_results_of_another_study_file_are_told(study: FinishedStudy) -> None:
    study.raw["runs"]["other"]["optimization"] = {"epochs": 3.0}
    found = told(study)
    assert "results/tiny: results there are of another study file (settings " in found
    assert "made with other settings or by another version: other/seed0." in found


def test_another_version_is_no_other_study_file(
    study: FinishedStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RESULT_VERSIONS, "evaluate", 99)
    found = told(study)
    assert "results/tiny: results there are made with other settings or by another version" in found
    assert "study file" not in found


def test_damaged_results_do_not_keep_the_workflow_from_starting(study: FinishedStudy) -> None:
    path = study.root / "results/tiny/runs/other/seed0/scores/scienceqa.json"
    path.write_text("{")
    assert str(path) in told(study)


def test_touch_is_refused_where_it_would_hide_old_results(study: FinishedStudy) -> None:
    refuse_touch(load_study(study.raw))
    study.raw["runs"]["adem"]["optimization"] = {"epochs": 3.0}
    with pytest.raises(SettingsError, match=r"--touch would hide(.|\n)*adem/seed[01]"):
        refuse_touch(load_study(study.raw))


def test_touch_is_refused_where_it_would_hide_other_data(study: FinishedStudy) -> None:
    change_problems(study, "test")
    with pytest.raises(SettingsError, match=r"--touch would hide"):
        refuse_touch(load_study(study.raw))


def test_files_whose_time_lies_ahead_are_refused_with_the_remedy(tmp_path: Path) -> None:
    ahead, old, link = (tmp_path / name for name in ("a head.json", "old.json", "link.json"))
    for path in (ahead, old):
        path.touch()
    link.symlink_to(ahead)
    read = {str(ahead), str(old), str(link), str(tmp_path / "made later")}
    refuse_future_times(read)
    in_two_days = time.time() + 2 * 24 * 3600
    os.utime(ahead, (in_two_days, in_two_days))
    with pytest.raises(SettingsError, match="time lies ahead") as caught:
        refuse_future_times(read)
    assert f"`touch '{ahead}' {link}`" in str(caught.value)
    assert str(old) not in str(caught.value)


def test_data_that_has_changed_since_it_was_made_is_refused(study: FinishedStudy) -> None:
    folder = study.data.parent
    manifest = folder / "manifest.json"
    made = {
        path.relative_to(folder).as_posix(): sha256_file(path) for path in study.data.glob("*.json")
    }
    write_json(manifest, {"sha256": made})
    loaded, read = load_study(study.raw), {str(manifest)}
    refuse_changed_data(loaded, read)
    change_problems(study, "test")
    refuse_changed_data(loaded, set())
    expected = rf"problems\.json(.|\n)*snakemake --forcerun {manifest}"
    with pytest.raises(SettingsError, match=expected):
        refuse_changed_data(loaded, read)
    (study.data / "problems.json").unlink()
    with pytest.raises(SettingsError, match=expected):
        refuse_changed_data(loaded, read)


RUN_DIR = Path("results/smoke/runs/text_only/seed0")
MANIFEST = Path("results/shared/data/easy_vqa_smoke/manifest.json")


def small_study(folder: Path) -> Path:
    """Write the smoke study with its quickest run that sees images, and its control."""
    raw = yaml.safe_load(SMOKE.read_text(encoding="utf-8"))
    raw["runs"] = {name: raw["runs"][name] for name in ("adem", "text_only")}
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return path


def refused(folder: Path, *arguments: str, configfile: Path) -> str:
    process = snakemake(folder, *arguments, configfile=configfile)
    printed, _ = process.communicate()
    assert process.returncode != 0
    assert "Traceback" not in printed
    return printed


def set_ahead(path: Path) -> None:
    in_two_days = time.time() + 2 * 24 * 3600
    os.utime(path, (in_two_days, in_two_days))


@pytest.mark.slow
def test_no_finished_training_is_lost_to_a_clock_that_is_wrong(tmp_path: Path) -> None:
    pytest.importorskip("easy_vqa", reason="the package easy-vqa is not installed")
    study, run_dir = small_study(tmp_path), tmp_path / RUN_DIR
    adapter, manifest = run_dir / "adapter/adapter.safetensors", tmp_path / MANIFEST
    target = str(RUN_DIR / "adapter/adapter.json")
    run_to_end(tmp_path, str(MANIFEST), configfile=study)
    set_ahead(manifest)
    printed = refused(tmp_path, target, configfile=study)
    assert f"`touch {MANIFEST}`" in printed
    assert not (run_dir / "metrics.csv").exists()
    manifest.touch()
    # Snakemake looks at the times again when the job has ended.
    process = snakemake(tmp_path, target, configfile=study)
    wait_until((run_dir / "metrics.csv").exists, "training has begun", processes=[process])
    set_ahead(manifest)
    printed, _ = process.communicate()
    assert process.returncode != 0
    assert "older modification time" in printed
    trained = adapter.stat().st_ino
    manifest.touch()
    run_to_end(tmp_path, target, configfile=study)
    assert adapter.stat().st_ino == trained


@pytest.mark.slow
def test_edited_study_and_changed_images_show_work_to_do(tmp_path: Path) -> None:
    pytest.importorskip("easy_vqa", reason="the package easy-vqa is not installed")
    study = small_study(tmp_path)
    run_to_end(tmp_path, "evaluate", configfile=study)
    assert "Nothing to be done" in run_to_end(tmp_path, "-n", "--", "evaluate", configfile=study)

    edited = study.with_name("edited.yaml")
    edited.write_text(study.read_text().replace("epochs: 1.0", "epochs: 2.0"))
    printed = refused(tmp_path, "--touch", "--", "evaluate", configfile=edited)
    assert "--touch would hide that these are of other settings" in printed
    assert "Nothing to be done" in run_to_end(tmp_path, "-n", "--", "evaluate", configfile=study)

    images = sorted((tmp_path / MANIFEST).parent.glob("scienceqa/images/test/*/*.png"))
    shutil.copyfile(images[0], images[-1])
    printed = run_to_end(tmp_path, "-n", "--", "evaluate", configfile=study)
    assert "adem/seed0: scored on other images than data set easy_vqa_smoke holds now" in printed
    assert printed.count("rule evaluate_run:") == 1
    assert "rule train_run:" not in printed
    run_to_end(tmp_path, "evaluate", configfile=study)
    assert "Nothing to be done" in run_to_end(tmp_path, "-n", "--", "evaluate", configfile=study)
