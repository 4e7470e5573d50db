"""Protects what the page says of settings: every difference to the paper, and none that is not."""

from pathlib import Path

from ademvl.reporting.page.settings_difference import PAPER_STUDY, differences_to_paper, flatten
from ademvl.reporting.results import read_results
from tests.reporting.synthetic import SyntheticStudy


def _differences(study: SyntheticStudy) -> dict[str, object]:
    return {found.name: found for found in differences_to_paper(read_results(study.study))}


def test_paper_does_not_differ_from_itself(tmp_path: Path) -> None:
    import yaml

    raw = yaml.safe_load(PAPER_STUDY.read_text())
    raw["results_dir"] = str(tmp_path)
    raw["runs"] = {name: raw["runs"][name] for name in ("scienceqa_7b", "captions_7b")}
    study = SyntheticStudy(tmp_path)
    study.raw = raw
    assert _differences(study) == {}


def test_shared_values_name_no_runs_and_others_do(synthetic: SyntheticStudy) -> None:
    synthetic.raw["runs"]["text_only"]["method"] = {"gamma": 0.5}
    found = _differences(synthetic)
    assert found["method.gamma"].here == (("0.1", ("ADEM-VL",)), ("0.5", ("text-only control",)))
    assert found["features.mode"].here == (("cached", ()),)
    assert found["features.mode"].tasks == ("scienceqa", "coco_caption")
    assert found["features.mode"].paper == "online"
    assert "optimization.per_device_batch_size" not in found
    assert "data_dir" not in found


def test_value_of_most_runs_is_told_as_a_count(synthetic: SyntheticStudy) -> None:
    for number in range(4):
        synthetic.raw["runs"][f"more_{number}"] = {"label": f"run {number}"}
    synthetic.raw["runs"]["text_only"]["method"] = {"gamma": 0.5}
    found = _differences(synthetic)
    assert found["method.gamma"].here == (
        ("0.1", ("all others (5 runs)",)),
        ("0.5", ("text-only control",)),
    )


def test_of_another_method_only_its_name_is_told(synthetic: SyntheticStudy) -> None:
    synthetic.raw["runs"]["text_only"]["method"] = {"name": "memvp", "alpha": 0.5}
    synthetic.raw["runs"]["adem"]["method"] = {"gamma": 0.5}
    found = _differences(synthetic)
    assert found["method.name"].paper == "adem"
    here = dict(found["method.name"].here)
    assert here["memvp"] == ("text-only control",)
    assert found["method.gamma"].here == (("0.5", ("ADEM-VL",)),)
    assert "method.alpha" not in found
    assert not [one for one in found if one.startswith("method.") and "–" in found[one].paper]


def test_flatten_joins_keys() -> None:
    content = {"usage": {"wall_seconds": 1.5}, "gpus": [], "code": "x"}
    assert list(flatten(content)) == [("usage.wall_seconds", "1.5"), ("gpus", "[]"), ("code", "x")]
