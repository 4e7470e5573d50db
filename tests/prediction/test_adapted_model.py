"""Protects the Python API: answers of `ademvl predict`, any form of an image, clear refusals."""

import json
import shutil
import subprocess
import sys

import pytest
from PIL import Image

import ademvl
from ademvl.cli import main
from ademvl.config.run import FeatureSettings
from ademvl.errors import DataError, SettingsError
from tests.conftest import PROJECT_ROOT

ASKED = [
    {"image": "sample:red_circle.png", "question": "What color is it?", "choices": ["red", "blue"]},
    {"question": "Is it red?", "choices": ["yes", "no"], "hint": "It is."},
    {"image": "sample:teal_circle.png", "caption": True},
    {"id": "open", "question": "What is it?"},
]


def test_importing_the_package_loads_nothing_heavy() -> None:
    program = (
        "import ademvl, sys; assert ademvl.load; "
        "print({name.partition('.')[0] for name in sys.modules} & {'torch', 'PIL', 'numpy'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=PROJECT_ROOT
    )
    assert done.stdout.strip() == "set()", done.stderr


@pytest.mark.parametrize("mode", ["cached", "online"])
def test_answers_are_those_of_predict(make, tmp_path, capsys, mode) -> None:
    run_dir = make(features=FeatureSettings(mode=mode, precision="fp32", cache_dir="features"))
    path = tmp_path / "requests.jsonl"
    path.write_text("\n".join(map(json.dumps, ASKED)))
    assert main(["predict", str(run_dir), "--jsonl", str(path)]) == 0
    expected = capsys.readouterr().out.splitlines()
    model = ademvl.load(run_dir)
    for batch_size in (1, 16):
        answers = model.answer_all(ASKED, batch_size=batch_size)
        assert [json.dumps(answer.to_json()) for answer in answers] == expected
    question, caption = json.loads(expected[0]), json.loads(expected[2])
    answer = model.answer("sample:red_circle.png", "What color is it?", ["red", "blue"])
    assert (answer.text, list(answer.probabilities)) == (
        question["text"],
        question["probabilities"],
    )
    assert str(model.caption("sample:teal_circle.png")) == caption["answer"]


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "CMYK", "1"])
def test_image_of_pillow_is_seen_as_its_file_is(make, base, tmp_path, mode) -> None:
    with Image.open(next(base.glob("data/scienceqa/images/test/*/image.png"))) as image:
        picture = image.convert(mode)
    file = tmp_path / "picture.tiff"
    picture.save(file)
    choices = ["red", "green"]
    model = ademvl.load(make())
    by_file = model.answer(file, "What color?", choices)
    by_text = model.answer(str(file), "What color?", choices)
    assert by_file == by_text == model.answer(picture, "What color?", choices)
    none = model.answer(None, "What color?", choices)
    assert none.probabilities != by_file.probabilities


def test_file_that_changed_between_two_questions_is_read_anew(make, tmp_path) -> None:
    model = ademvl.load(make(features=FeatureSettings(mode="online")))
    file = tmp_path / "picture.png"
    answers = []
    for color in ("red", "blue"):
        Image.new("RGB", (32, 32), color).save(file)
        answers.append(model.answer(file, "What color?", ["red", "blue"]))
    assert answers[0].probabilities != answers[1].probabilities


def test_lowest_trained_seed_of_a_run_is_taken(make, tmp_path, caplog) -> None:
    run = tmp_path / "runs/adem"
    for seed in (10, 2):
        shutil.copytree(make(f"{seed}", seed=seed), run / f"seed{seed}")
    (run / "seed0").mkdir()
    with caplog.at_level("INFO"):
        model = ademvl.load(str(run))
    assert model.trained.folder == run / "seed2" / "adapter"
    assert f"{run}: seed2 of 2 trained seeds" in caplog.text


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ([{"question": "?", "choices": "ab"}], "request 1: choices are 'ab', expected a list"),
        ([{"question": "?", "qestion": "?"}], "unknown key 'qestion'; did you mean question?"),
        ([{"question": "?", "id": "a"}] * 2, "request 2: id 'a' is that of another one"),
        ([{"image": "absent.png", "caption": True}], "absent.png: image of request 1 is missing"),
        (
            [{"image": Image.new("HSV", (4, 4)), "question": "?"}],
            "mode HSV cannot be kept",
        ),
    ],
)
def test_malformed_requests_are_refused(make, requests, message) -> None:
    with pytest.raises(DataError, match=message.replace("?", r"\?").replace("[", r"\[")):
        ademvl.load(make()).answer_all(requests)


def test_text_only_control_refuses_images(make) -> None:
    model = ademvl.load(make(images="withheld"))
    with pytest.raises(SettingsError, match="a text-only control"):
        model.caption("sample:red_circle.png")
    assert model.answer(None, "What?").text


@pytest.mark.parametrize("task", ["scienceqa", "coco_caption"])
def test_explanation_has_the_maps_that_predict_draws(make, tmp_path, task) -> None:
    run_dir, image = make(task=task), "sample:red_circle.png"
    asked = [] if task == "coco_caption" else ["What color is it?", ["red", "blue"]]
    options = ["--question", asked[0], "--choices", *asked[1]] if asked else ["--caption"]
    call = ["predict", str(run_dir), "--image", image, *options]
    assert main([*call, "--explain", str(tmp_path / "maps")]) in (0, 1)
    (item,) = json.loads((tmp_path / "maps/fusion_maps.json").read_text())["items"]
    found = ademvl.load(run_dir).explain(image, *asked)
    assert json.loads(json.dumps(found.numbers)) == item["words"]
    assert found.answer.answer == item["answer"]
    found.save(tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").read_bytes() == (tmp_path / "maps/item_1.png").read_bytes()
    overlays = [found.overlay(0, scale=found.scales[0], layer=layer) for layer in (None, 0)]
    assert overlays[0].size == overlays[1].size == (384, 384)
    assert overlays[0].tobytes() != overlays[1].tobytes()


def test_adapter_without_fusion_cannot_be_explained(make) -> None:
    model = ademvl.load(make(images="withheld"))
    with pytest.raises(SettingsError, match="no request has an image"):
        model.explain(None, "What?")
