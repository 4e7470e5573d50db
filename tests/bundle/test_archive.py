"""Protects bundles: complete, the same bytes from the same results, private, refused if damaged."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from rocrate.rocrate import ROCrate

from ademvl.bundle.archive import MANIFEST_FILE, open_results, read_bundle, write_bundle
from ademvl.bundle.collection import Extras, collect
from ademvl.bundle.crate import CRATE_FILE
from ademvl.cli import main
from ademvl.config.settings_files import study_to_json, write_settings
from ademvl.errors import DataError, SettingsError
from ademvl.reporting.tables.keys import TABLE_KEYS
from ademvl.runs.chosen_rate import Candidate, RateChoice, choice_file, write_choice
from ademvl.runs.failures import noted_failure
from ademvl.tasks.coco_caption.karpathy import write_references
from tests.bundle.finished import NUM_TEST, FinishedStudy
from tests.reporting.page.page_study import answered_study, predict
from tests.reporting.synthetic import write_sealed

RUN_FILES = {
    "metrics.csv",
    "predictions/scienceqa.header.json",
    "predictions/scienceqa.jsonl",
    "provenance.json",
    "run.yaml",
    "scores/scienceqa.json",
}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return FinishedStudy(tmp_path).finish()


GRID = (
    Candidate(base_lr=0.01, score=50.0, n=20, seconds=3.0),
    Candidate(base_lr=0.1, failure="not finite"),
)


@pytest.fixture
def bundle(results: Path, tmp_path: Path) -> Path:
    write_bundle(results, tmp_path / "tiny.zip")
    return tmp_path / "tiny.zip"


def test_bundle_holds_what_rates_were_chosen_from(tmp_path: Path) -> None:
    grid = {"optimization": {"lr_grid": [found.base_lr for found in GRID]}}
    study = FinishedStudy(tmp_path, runs={"adem": grid, "other": {}, "later": grid})
    for name in ("adem", "later"):
        record = choice_file(tmp_path / "results/tiny", name)
        write_choice(record, RateChoice(run=name, base_lr=0.01, candidates=GRID))
    collection = collect(study.finish(only=("adem", "other")))
    rates = {name: text for name, text in collection.files.items() if name.startswith("rates/")}
    assert list(rates) == ["rates/adem.json"]  # the other run is not finished
    described = json.loads(rates["rates/adem.json"])
    assert (described["base_lr"], described["split"]) == (0.01, "val")
    assert [found["score"] for found in described["candidates"]] == [50.0, None]
    assert described["candidates"][0]["seconds"] == 3.0


def rewrite(bundle: Path, change: Callable[[str, bytes], tuple[str, bytes] | None]) -> None:
    """Write the archive anew with changed entries; None leaves one out."""
    with zipfile.ZipFile(bundle) as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(bundle, "w") as archive:
        for name, content in entries:
            changed = change(name, content)
            if changed:
                archive.writestr(*changed)


def test_bundle_holds_scores_predictions_provenance_settings_and_answers(bundle: Path) -> None:
    files = read_bundle(bundle).files
    trainings = ("adem/seed0", "adem/seed1", "other/seed0")
    expected = {f"runs/{training}/{name}" for training in trainings for name in RUN_FILES}
    expected |= {"study.yaml", "answers/squares/scienceqa_test.json"}
    expected |= {f"tables/{key}.{s}" for key in TABLE_KEYS for s in ("csv", "md", "tex", "html")}
    assert set(files) == expected
    answers = json.loads(files["answers/squares/scienceqa_test.json"])
    assert len(answers) == NUM_TEST
    assert {"answer_index", "columns"} == set(next(iter(answers.values())))


def test_adapters_and_figures_come_if_asked_for(results: Path, tmp_path: Path) -> None:
    extras = Extras(figures=True, adapters=True)
    files = write_bundle(results, tmp_path / "all.zip", extras).files
    assert files["runs/adem/seed0/adapter/adapter.safetensors"] == b"weights"
    assert files["figures/cost.png"].startswith(b"\x89PNG")
    assert b"<svg" in files["figures/learning_curves.svg"]


def test_tables_are_of_the_scores_beside_them(results: Path, tmp_path: Path) -> None:
    path = results / "runs/other/seed0/scores/scienceqa.json"
    scores = json.loads(path.read_text())
    scores["columns"]["AVG"]["percent"] = 12.34
    scores["columns"]["AVG"].update(ci_low=10.0, ci_high=20.0)
    write_sealed(path, scores)
    shutil.rmtree(results.parent / "shared/data")
    shutil.rmtree(results / "runs/adem/seed1/scores")
    (results / "tables").mkdir()
    (results / "tables" / "accuracy.md").write_text("an old table")
    files = write_bundle(results, tmp_path / "tiny.zip").files
    table = files["tables/accuracy.md"].decode()
    assert "12.34" in table
    assert "an old table" not in table
    assert "Begun and not finished: seed 1." in table


def test_same_results_elsewhere_give_the_same_bytes(
    bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    FinishedStudy(elsewhere).finish()
    write_bundle(elsewhere / "results" / "tiny", elsewhere / "tiny.zip")
    assert (elsewhere / "tiny.zip").read_bytes() == bundle.read_bytes()


def test_results_of_a_relative_study_are_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {"results_dir": "results", "shared_dir": "results/shared"}
    monkeypatch.chdir(tmp_path)
    FinishedStudy(Path(), **places).finish()
    monkeypatch.chdir("/")
    files = open_results(tmp_path / "results/tiny").files
    assert "answers/squares/scienceqa_test.json" in files
    assert "runs/adem/seed0/scores/scienceqa.json" in files


def test_results_under_another_name_than_their_study_are_refused(results: Path) -> None:
    renamed = results.rename(results.with_name("other"))
    with pytest.raises(SettingsError, match="says that results are in"):
        open_results(renamed)


def test_no_place_of_this_machine_is_passed_on(bundle: Path, tmp_path: Path) -> None:
    content = bundle.read_bytes()
    for place in (str(tmp_path), "/home/somebody"):
        assert place.encode() not in content
    assert b"<path>/llama-7b" in content
    assert b"<path>/squares" in content


def test_place_in_a_label_is_refused_by_name(tmp_path: Path) -> None:
    study = FinishedStudy(tmp_path)
    study.raw["runs"]["adem"]["label"] = f"see {tmp_path}/results/tiny/runs"
    with pytest.raises(DataError, match=r"tables/accuracy\.csv"):
        write_bundle(study.finish(), tmp_path / "tiny.zip")
    assert not (tmp_path / "tiny.zip").exists()


def test_folders_in_a_failure_are_not_passed_on(tmp_path: Path) -> None:
    results = FinishedStudy(tmp_path).finish(only=("adem",))
    folder = results / "runs/other/seed0"
    folder.mkdir(parents=True)
    with pytest.raises(OSError, match="No such file"), noted_failure(folder, "train"):
        raise FileNotFoundError(2, "No such file", "/scratch/alice/secret_project/problems.json")
    files = write_bundle(results, tmp_path / "tiny.zip").files
    assert b"problems.json" in files["tables/accuracy.md"]
    assert not [name for name, content in files.items() if b"alice" in content]


def test_ordinary_text_with_slashes_stays(tmp_path: Path) -> None:
    study, label = FinishedStudy(tmp_path), "~ 5 epochs, lr 0.1/256"
    study.raw["runs"]["adem"]["label"] = label
    files = write_bundle(study.finish(), tmp_path / "tiny.zip").files
    assert f"label: {label}".encode() in files["study.yaml"]


def test_references_are_passed_on_as_they_are(tmp_path: Path) -> None:
    caption = "/A man riding a horse / a bike"
    synthetic = answered_study(tmp_path)
    study, captions = synthetic.study, tmp_path / "shared/data/shapes/coco_caption"
    rows = [{"image": "0.png", "caption": [caption]}]
    (captions / "karpathy/coco_karpathy_test.json").write_text(json.dumps(rows))
    write_references(captions, "test")
    predict(synthetic, "captions", [{"id": "0", "text": "a bike", "caption": "a bike"}])
    write_settings(study.results_dir / "study.yaml", study_to_json(study))
    answers = open_results(study.results_dir).files["answers/shapes/coco_caption_test.json"]
    assert json.loads(answers) == {"0": [caption]}


def test_metadata_is_a_ro_crate_of_all_files(bundle: Path) -> None:
    with zipfile.ZipFile(bundle) as archive:
        crate = json.loads(archive.read(CRATE_FILE))
        names = set(archive.namelist())
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    entities = {entity["@id"]: entity for entity in crate["@graph"]}
    descriptor, root = entities[CRATE_FILE], entities["./"]
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    assert descriptor["about"] == {"@id": "./"}
    assert root["datePublished"] == "2026-01-02"
    assert {part["@id"] for part in root["hasPart"]} == names - {CRATE_FILE}
    for part in root["hasPart"]:
        entity = entities[part["@id"]]
        assert entity["@type"] == "File"
        if part["@id"] != MANIFEST_FILE:
            assert int(entity["contentSize"]) == sizes[part["@id"]]
            assert len(entity["sha256"]) == 64
    # Every reference leads to an entity.
    references = [
        value["@id"]
        for entity in crate["@graph"]
        for values in entity.values()
        for value in (values if isinstance(values, list) else [values])
        if isinstance(value, dict)
    ]
    assert set(references) - {"https://w3id.org/ro/crate/1.1"} <= set(entities)


def test_ro_crate_library_reads_it(bundle: Path) -> None:
    crate = ROCrate(bundle)
    assert crate.name == "Results of the study tiny"
    assert (
        crate.get("runs/adem/seed0/scores/scienceqa.json")["encodingFormat"] == "application/json"
    )
    assert crate.get("#ademvl").type == "SoftwareApplication"


def test_license_stands_in_the_metadata(results: Path, tmp_path: Path) -> None:
    url = "https://creativecommons.org/licenses/by/4.0/"
    write_bundle(results, tmp_path / "tiny.zip", license_text=url)
    with zipfile.ZipFile(tmp_path / "tiny.zip") as archive:
        graph = json.loads(archive.read(CRATE_FILE))["@graph"]
    assert next(e for e in graph if e["@id"] == "./")["license"] == {"@id": url}


def test_runs_that_are_not_finished_are_named_and_left_out(tmp_path: Path) -> None:
    results = FinishedStudy(tmp_path).finish(only=("adem",))
    made = write_bundle(results, tmp_path / "tiny.zip")
    assert made.states == {
        "adem/seed0": "finished",
        "adem/seed1": "finished",
        "other/seed0": "not run",
    }
    assert not [name for name in made.files if "other" in name]


def test_nothing_finished_is_refused(tmp_path: Path) -> None:
    results = FinishedStudy(tmp_path).finish(only=("nothing",))
    with pytest.raises(DataError, match="no run is finished"):
        write_bundle(results, tmp_path / "tiny.zip")


def test_missing_data_set_is_survived(results: Path, tmp_path: Path) -> None:
    shutil.rmtree(results.parent / "shared" / "data")
    files = write_bundle(results, tmp_path / "tiny.zip").files
    assert not [name for name in files if name.startswith("answers/")]


def test_runs_scored_on_other_data_than_there_is_now_are_left_out_with_the_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    study = FinishedStudy(tmp_path)
    results = study.finish()
    path = study.data / "problems.json"
    problems = json.loads(path.read_text())
    for problem in problems.values():
        problem["answer"] = 1 - problem["answer"]
    path.write_text(json.dumps(problems))
    with pytest.raises(DataError, match="no run is finished"):
        write_bundle(results, tmp_path / "tiny.zip")
    reason = "stale (scored on other answers than data set squares holds now), left out"
    assert f"adem/seed1: {reason}" in caplog.text


def test_truncated_bundle_is_refused_by_name(bundle: Path) -> None:
    bundle.write_bytes(bundle.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"tiny\.zip: truncated, or no zip archive"):
        read_bundle(bundle)


def test_changed_damaged_missing_and_added_files_are_refused_by_name(bundle: Path) -> None:
    def change(name: str, content: bytes) -> tuple[str, bytes] | None:
        if name == "study.yaml":
            return name, content + b" "
        if name == CRATE_FILE:
            return name, content.replace(b"Results", b"results")
        return None if name == "tables/accuracy.md" else (name, content)

    rewrite(bundle, change)
    with zipfile.ZipFile(bundle, "a") as archive:
        archive.writestr("extra.txt", "text")
    with pytest.raises(DataError) as caught:
        read_bundle(bundle)
    message = str(caught.value)
    assert "'study.yaml': its SHA-256 is not that of manifest.json" in message
    assert "'ro-crate-metadata.json': its SHA-256 is not that of manifest.json" in message
    assert "'tables/accuracy.md': missing" in message
    assert "'extra.txt': not listed in manifest.json" in message


@pytest.mark.parametrize("name", ["../outside.txt", "/etc/passwd", "a\\b.txt"])
def test_names_that_leave_the_bundle_are_refused(bundle: Path, name: str) -> None:
    with zipfile.ZipFile(bundle, "a") as archive:
        archive.writestr(zipfile.ZipInfo(name), "text")
    with pytest.raises(DataError, match="refused"):
        read_bundle(bundle)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (b"[]", "manifest.json is malformed"),
        (b"{", "manifest.json is malformed"),
        (b'{"format": 1, "study": "x"}', "manifest.json is malformed"),
        (
            b'{"format": 2, "study": "x", "ended": "", "runs": {}, "files": {}}',
            "bundle of format 2, this version of ademvl reads 1",
        ),
        (
            b'{"format": 1, "study": "x", "ended": "", "runs": {"../x": "finished"}, "files": {}}',
            "manifest.json is malformed",
        ),
    ],
)
def test_malformed_manifest_is_refused(bundle: Path, manifest: bytes, message: str) -> None:
    rewrite(bundle, lambda name, content: (name, manifest if name == MANIFEST_FILE else content))
    with pytest.raises(DataError, match=message):
        read_bundle(bundle)


def test_other_archives_and_folders_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "text")
    with pytest.raises(DataError, match=r"other\.zip: no bundle"):
        open_results(tmp_path / "other.zip")
    with pytest.raises(DataError, match="no results of a study"):
        open_results(tmp_path)


def test_command_line_writes_a_bundle(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.zip"
    assert main(["bundle", str(results), "--output", str(output), "--with-adapters"]) == 0
    assert "3 of 3 trainings" in capsys.readouterr().out
    assert read_bundle(output).study == "tiny"
