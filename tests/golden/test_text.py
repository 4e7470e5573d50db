"""Protects parity with the reference in text and pixels, and that a difference is noticed."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from ademvl.errors import DataError
from ademvl.golden.checks import Check
from ademvl.golden.text import check_captions, check_images, check_prompts, check_tokens

CHECKERS = {
    "G_prompts": check_prompts,
    "G_tokens": check_tokens,
    "G_captions": check_captions,
    "H_images": check_images,
}


@pytest.fixture
def copied(golden_dir, tmp_path):
    for name in CHECKERS:
        for path in golden_dir.glob(f"{name}.*"):
            shutil.copyfile(path, tmp_path / path.name)
    weights = tmp_path / "models" / "weights"
    weights.mkdir(parents=True)
    source = golden_dir / "models" / "weights" / "tokenizer.model"
    shutil.copyfile(source, weights / "tokenizer.model")
    return tmp_path


def change_json(path, change):
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize("case", CHECKERS)
def test_golden_case_is_reproduced(golden_dir, case):
    checks = CHECKERS[case](golden_dir)
    assert checks
    assert [check for check in checks if not check.passed] == []


@pytest.mark.parametrize("case", CHECKERS)
def test_absent_case_gives_no_checks(tmp_path, case):
    assert CHECKERS[case](tmp_path) == []


def test_other_prompt_fails(copied):
    def change(content):
        variants = next(iter(content["expected"].values()))["prompt"]["CQM"]
        variants["caption"] += " "

    change_json(copied / "G_prompts.json", change)
    errors = {check.what.split()[-1]: check.error for check in check_prompts(copied)}
    assert errors == {"prompts": 1, "answers": 0, "refused": 0}


def test_other_token_fails(copied):
    path = copied / "G_tokens.safetensors"
    tensors = load_file(path)
    tensors["caption.w64.example"][3, 5] += 1
    save_file(tensors, path)
    failed = [check for check in check_tokens(copied) if not check.passed]
    assert [(check.what, check.error) for check in failed] == [("caption.w64 example", 1)]


def test_other_settings_are_read_from_the_files(copied):
    def change(content):
        content["arrays"] = {"short": {**content["arrays"]["caption.w64"], "max_words": 20}}

    tensors = load_file(copied / "G_tokens.safetensors")
    short = {
        f"short.{name}": tensors[f"caption.w64.{name}"][:, :20].contiguous()
        for name in ("example", "labels", "example_mask", "label_mask")
    }
    save_file(short, copied / "G_tokens.safetensors")
    change_json(copied / "G_tokens.json", change)
    assert all(check.passed for check in check_tokens(copied))


def test_other_pixels_fail(copied):
    path = copied / "H_images.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith("sqa_strided"))
    tensors[name] += 0.05
    save_file(tensors, path)
    failed = [check.what for check in check_images(copied) if not check.passed]
    assert failed == ["sqa pixels"]


def test_damaged_case_is_named(copied):
    (copied / "H_images.safetensors").write_bytes(b"short")
    with pytest.raises(DataError, match=r"H_images\.safetensors: cannot be read"):
        check_images(copied)
    (copied / "G_prompts.json").unlink()
    with pytest.raises(DataError, match=r"G_tokens needs the problems of G_prompts\.json"):
        check_tokens(copied)


def test_nan_never_passes():
    assert not Check("A", "x", float("nan"), 1.0).passed
    assert Check("A", "x", 1.0, 1.0).passed
