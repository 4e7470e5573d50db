"""Protects the scoring of others' captions: odd files are refused or counted, failures are said."""

import codecs
import json
import logging

import pytest

from ademvl.cli import main
from ademvl.errors import DataError
from ademvl.tasks.coco_caption.metrics.files import (
    CaptionOptions,
    caption_table,
    read_results,
    score_caption_file,
    split_in_name,
)
from ademvl.tasks.coco_caption.metrics.scores import METRICS
from tests.tasks.coco_caption.metrics.fake_java import write_program

TEXTS = {1: "a red circle", 2: "a blue square", 3: "a green triangle"}
ROWS = [{"image_id": key, "caption": text} for key, text in TEXTS.items()]
PUBLISHED_NAMES = {
    **{f"BLEU-{order}": f"Bleu_{order}" for order in (1, 2, 3, 4)},
    **{"ROUGE-L": "ROUGE_L", "CIDEr": "CIDEr", "METEOR": "METEOR"},
}


@pytest.fixture
def references(tmp_path):
    annotations = [
        {"id": 10 * key + number, "image_id": key, "caption": f"{text}{ending}"}
        for key, text in TEXTS.items()
        for number, ending in enumerate((".", " on white"))
    ]
    content = {"images": [{"id": key} for key in TEXTS], "annotations": annotations}
    path = tmp_path / "coco_karpathy_val_gt.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture
def write(tmp_path):
    def run(content, name="results.json"):
        path = tmp_path / name
        text = content if isinstance(content, str) else json.dumps(content)
        path.write_text(text, encoding="utf-8")
        return path

    return run


def _with_caption(caption):
    return [{"image_id": 1, "caption": caption}, *ROWS[1:]]


@pytest.mark.slow
@pytest.mark.java
@pytest.mark.parametrize("results", ["results_zerocap.json", "results_contrastive_search.json"])
def test_published_results_give_the_published_scores(real_dir, tmp_path, results, capsys):
    folder, output = real_dir / "coco_captions", tmp_path / "scores.json"
    arguments = ["--references", folder / "karpathy_test_gt.json", "--results", folder / results]
    arguments += ["--output", output, "--meteor"]
    assert main(["score", "captions", *map(str, arguments)]) == 0
    known = json.loads((folder / "expected_scores.json").read_text(encoding="utf-8"))
    expected = known[results]["recomputed_pycocoevalcap_1.2"]
    scores = json.loads(output.read_text(encoding="utf-8"))
    assert scores["split"] == "karpathy test"
    assert scores["n"] == expected["n_images"]
    for ours, theirs in PUBLISHED_NAMES.items():
        assert round(scores["metrics"][ours]["percent"] / 100, 6) == expected[theirs], ours
        low, high = (scores["metrics"][ours][end] for end in ("ci_low", "ci_high"))
        assert low < scores["metrics"][ours]["percent"] < high
    assert "karpathy test; 5000 images, 25010 references" in capsys.readouterr().out


@pytest.mark.parametrize(
    "shape",
    [
        lambda captions: {str(key): text for key, text in captions.items()},
        lambda captions: {str(key): [text] for key, text in captions.items()},
        lambda captions: {str(key): [{"caption": text}] for key, text in captions.items()},
        lambda captions: {
            "info": {},
            "annotations": [
                {"id": n, "image_id": key, "caption": text}
                for n, (key, text) in enumerate(captions.items())
            ],
        },
    ],
)
def test_published_captions_are_the_same_in_other_shapes(real_dir, write, shape):
    published = real_dir / "coco_captions/results_zerocap.json"
    if not published.is_file():
        pytest.skip(f"real data not found: {published}")
    expected = read_results(published)
    path = write(shape(expected.captions))
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes() + b"\r\n\r\n")
    assert read_results(path) == expected
    assert len(expected.captions) == 5000


@pytest.mark.parametrize("name", ["a.tsv", "a.csv"])
def test_table_of_captions_is_read(write, name):
    delimiter = {"a.tsv": "\t", "a.csv": ","}[name]
    rows = [("image_id", "caption"), *TEXTS.items()]
    text = "".join(f"{key}{delimiter}{caption}\n" for key, caption in rows)
    assert read_results(write(text, name)).captions == TEXTS


@pytest.mark.java
@pytest.mark.parametrize(
    ("content", "name"),
    [
        (ROWS, "results.json"),
        ([{"image_id": str(key), "caption": text} for key, text in TEXTS.items()], "texts.json"),
        (
            "".join(
                json.dumps({"id": str(key), "text": f"a picture of {text}", "caption": text}) + "\n"
                for key, text in TEXTS.items()
            ),
            "ours.jsonl",
        ),
    ],
)
def test_published_shapes_are_read(write, references, content, name):
    scores = score_caption_file(references, write(content, name), options=CaptionOptions())
    assert scores["metrics"]["BLEU-1"]["percent"] == pytest.approx(100)
    assert scores["split"] == "karpathy val"
    assert scores["not_run"] == {}


@pytest.mark.java
@pytest.mark.parametrize(
    ("caption", "note"),
    [
        ("a red\ncircle", "hold line breaks, which count as blanks"),
        ("a red \ud800 circle", "hold lone surrogates, which are dropped"),
        ("a red circle " + "x" * 100_000, "are longer than 1000 characters"),
    ],
)
def test_odd_captions_are_scored_and_said(write, references, caption, note, caplog, tmp_path):
    with caplog.at_level(logging.WARNING):
        scores = score_caption_file(
            references, write(_with_caption(caption)), options=CaptionOptions()
        )
    assert scores["notes"] == {note: [1]}
    assert f"1 captions {note}: images 1" in caplog.text
    assert scores["metrics"]["BLEU-1"]["percent"] > 85


@pytest.mark.java
@pytest.mark.parametrize("caption", ["", " ", "...", "\n", "\ud800"])
def test_caption_without_words_scores_zero_and_is_said(write, references, caption, caplog):
    with caplog.at_level(logging.WARNING):
        scores = score_caption_file(
            references, write(_with_caption(caption)), options=CaptionOptions()
        )
    assert scores["num_empty"] == 1
    assert scores["empty_images"] == [1]
    assert "1 of 3 captions have no words and score zero: images 1" in caplog.text
    assert "1 captions without words score zero" in caption_table(scores)


@pytest.mark.parametrize(
    ("content", "finding"),
    [
        (ROWS[1:], "image 1: no caption"),
        ([*ROWS, {"image_id": 9, "caption": "a"}], "image 9: a caption, but no references"),
        ([*ROWS, ROWS[0]], "row 4: image 1 has more than one caption"),
        (_with_caption(None), "caption of image 1 is NoneType, expected text"),
        (_with_caption(["a"]), "caption of image 1 is list, expected text"),
        ([{"image_id": 1}, *ROWS[1:]], "caption of image 1 is missing, expected text"),
        ([{"caption": "a"}, *ROWS], "row 1: no image id"),
        ([{"image_id": True, "caption": "a"}, *ROWS], "row 1: no image id"),
        (["a"], "row 1: no image id"),
        ({"results": ROWS}, "row 1: no image id"),
        ({"1": "a", "01": "b"}, "row 2: image 1 has more than one caption"),
        ({"1": ["a", "b"]}, "row 1: caption of image 1 is list, expected text"),
        ({"annotations": "a"}, "holds a str, expected a list"),
        ({"annotations": [*ROWS, ROWS[0]]}, "row 4: image 1 has more than one caption"),
        ("a", "not valid JSON"),
        ("[{", "not valid JSON"),
        ('[{"image_id": 1, "caption": "a", "caption": "b"}]', "key 'caption' occurs twice"),
        ([], "image 1: no caption"),
    ],
)
def test_files_that_do_not_fit_are_refused(write, references, content, finding):
    with pytest.raises(DataError, match=finding):
        score_caption_file(references, write(content), options=CaptionOptions())


def test_many_findings_are_listed_at_once(write, references):
    rows = [{"image_id": key} for key in range(100)]
    with pytest.raises(DataError, match=r"\(100 found\)[^$]*and 80 more"):
        read_results(write(rows))


@pytest.mark.java
def test_folder_of_the_references_is_left_as_it_is(write, references):
    results = write(ROWS)
    before = sorted(references.parent.iterdir())
    score_caption_file(references, results, options=CaptionOptions())
    assert sorted(references.parent.iterdir()) == before


def test_metric_whose_java_dies_leaves_the_others(write, references, tmp_path, capsys):
    output = tmp_path / "scores.json"
    arguments = ["--references", references, "--results", write(ROWS), "--output", output]
    arguments += ["--meteor", "--meteor-mib", 16, "--spice", "--spice-parser", tmp_path]
    assert main(["score", "captions", *map(str, arguments)]) == 1
    scores = json.loads(output.read_text(encoding="utf-8"))
    assert set(scores["metrics"]) == set(METRICS)
    assert "Java ended with status" in scores["not_run"]["METEOR"]
    assert "METEOR: not run (Java ended with status" in capsys.readouterr().out
    assert "no stanford-corenlp-3.6.0.jar" in scores["not_run"]["SPICE"]


@pytest.mark.parametrize("script", [None, "exit 127", "cat > /dev/null"])
def test_no_working_java_is_said_for_every_metric(write, references, tmp_path, script, capsys):
    java, output = tmp_path / "java", tmp_path / "scores.json"
    if script:
        write_program(java, script)
    arguments = ["--references", references, "--results", write(ROWS), "--output", output]
    arguments += ["--java", java, "--meteor"]
    assert main(["score", "captions", *map(str, arguments)]) == 1
    scores = json.loads(output.read_text(encoding="utf-8"))
    assert scores["metrics"] == {}
    assert list(scores["not_run"]) == sorted((*METRICS, "METEOR"))
    assert scores["n"] == 3
    assert "BLEU-1: not run (captions could not be tokenized" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("coco_karpathy_test_gt.json", "karpathy test"),
        ("coco_karpathy_val_gt.json", "karpathy val"),
        ("captions_val2017.json", "val2017"),
        ("latest.json", None),
        ("references.json", None),
    ],
)
def test_split_is_read_off_the_name(name, split):
    assert split_in_name(name) == split
