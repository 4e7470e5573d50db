"""Protects the prediction of disk: releases of Meta that are converted, released adapters."""

from ademvl.config.study import load_study
from ademvl.planning.disk import source_disk


def test_a_release_of_meta_takes_its_size_once_more(golden_dir):
    folder = golden_dir / "models" / "weights" / "13B"
    study = load_study(
        {
            "study": "s",
            "datasets": {"mini": {}},
            "backbones": {"llama_13b": {"existing": str(folder)}},
            "runs": {"a": {"dataset": "mini", "backbones": {"llm": "llama_13b"}}},
        }
    )
    (use,) = source_disk(study)
    assert (use.what, use.place) == (
        "llama_13b, converted",
        "results/shared/converted/llama_13b",
    )
    assert use.bytes == sum(path.stat().st_size for path in folder.glob("*.pth"))


def test_a_released_adapter_is_fetched_where_nothing_else_is():
    run = {
        "dataset": "mini",
        "adapter": "released",
        "released_from": "adem_released_scienceqa",
    }
    study = load_study({"study": "s", "datasets": {"mini": {}}, "runs": {"a": run}})
    assert [use.what for use in source_disk(study)] == ["adem_released_scienceqa, fetched"]
