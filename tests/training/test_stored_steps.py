"""Protects every kind of training: losses and gradient norms of four steps are those on file.

A change of code that is meant to change no number passes; one that is meant to writes them anew:

    pytest tests/training/test_stored_steps.py --update-golden

Kinds are changes of keys in run.yaml, and what is compared stands in metrics.csv, so that modules
may move. The numbers are those of a CPU, on one thread or several.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ademvl.config.inheritance import merge_settings
from ademvl.training.run import train_run
from tests import tiny

STORED = Path(__file__).with_name("stored_steps.json")
TOLERANCE = 1e-5  # order of fp32 sums, which differs between processors and numbers of threads
BF16_TOLERANCE = 1e-2  # products in bf16, which processors round differently: by up to 2e-3 here
BASE: Mapping[str, Any] = {
    "optimization": {
        **{"epochs": 2.0, "warmup_epochs": 0.5, "base_lr": 1.0},  # two steps of six items an epoch
        **{"effective_batch_size": 6, "per_device_batch_size": 6, "log_interval_steps": 1},
    },
    # The fusion counts for as much as the text, so that losses tell of its every part.
    "method": {"alpha": 0.5, "beta": 0.5, "gamma": 0.3},
}
POSITIONS = ("mhsa_in", "mhsa_out", "mlp_in", "mlp_out")
ONLINE = {"features": {"mode": "online"}}
CAPTIONS = {"task": "coco_caption", "data_dir": "captions"}
INSTRUCTION = {"task": "instruction", "data_dir": "instruction"}


def method(**changes: Any) -> dict[str, Any]:
    return {"method": changes}


KINDS: dict[str, Mapping[str, Any]] = {
    "scienceqa, cached": {},
    "scienceqa, cached in fp16": {"features": {"precision": "fp16"}},
    "scienceqa, images withheld": {"images": "withheld"},
    "scienceqa, answers with lecture": {"prompts": {"train_format": "QCM-ALE"}},
    "scienceqa, pixels normalised for CLIP": {"features": {"normalization": "clip"}},
    "scienceqa, online": ONLINE,
    "scienceqa, online, much dropout": ONLINE | method(clip_adapter={"dropout": 0.5}),
    "captions, cached": CAPTIONS,
    "captions, online, augmented": CAPTIONS | ONLINE,
    "captions, plain answers": CAPTIONS | {"prompts": {"caption_answer": "plain"}},
    "captions, exact label mask": CAPTIONS | {"prompts": {"label_mask": "exact"}},
    "captions, one loss group": CAPTIONS | {"optimization": {"loss_group_size": 0}},
    "instruction, cached": INSTRUCTION,
    "instruction, online": INSTRUCTION | ONLINE,
    "without fusion": method(fusion="none"),
    "without fusion, online": ONLINE | method(fusion="none"),
    "visual tokens before the text": method(fusion="none", cls=False, visual_tokens=16),
    "visual tokens beside the fusion": method(visual_tokens=4),
    "without [cls]": method(cls=False),
    "memvp": method(fusion="memvp"),
    "memvp, online": ONLINE | method(fusion="memvp"),
    "memvp around the attention": method(fusion="memvp", query_from="mhsa_in", add_to="mhsa_out"),
    **{
        f"from {query_from} to {add_to}": method(query_from=query_from, add_to=add_to)
        for at, query_from in enumerate(POSITIONS)
        for add_to in POSITIONS[at:]
        if (query_from, add_to) != ("mlp_in", "mlp_out")  # the default
    },
    **{
        f"phi {phi}": method(phi=phi)
        for phi in ("identity", "softmax", "relu", "elu", "silu_positive")
    },
    "pooled by maximum": method(pool="max"),
    "projected, then pooled": method(pool_order="project_then_pool"),
    "nothing dropped": method(gamma=0.0),
    "dropped by magnitude": method(drop_by="magnitude"),
    "linear projections": method(projection_activation="none"),
    "no fusion of text-only questions": method(text_only_fusion=False),
    "the paper's alpha, beta and gamma": method(alpha=0.1, beta=0.01, gamma=0.1),
    "checkpointing": {"optimization": {"gradient_checkpointing": True}},
    "checkpointing, online": ONLINE | {"optimization": {"gradient_checkpointing": True}},
    "three passes a step": {"optimization": {"per_device_batch_size": 2}},
    "learning rate of the middle": {"optimization": {"lr_evaluated_at": "middle"}},
    "bf16": {"backbones": {"precision": "bf16"}},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Backbones, and the data of all tasks."""
    folder = tmp_path_factory.mktemp("world")
    tiny.make_run(folder)
    tiny.make_captions(folder / "captions")
    tiny.make_instructions(folder / "instruction")
    return folder


@pytest.fixture(autouse=True)
def processor_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Train on the CPU wherever this runs, and leave torch its number of threads."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def train_steps(world: Path, run_dir: Path, kind: str, *, threads: int) -> dict[str, list[float]]:
    """Train four steps of a kind; losses and gradient norms."""
    tiny.write_run(run_dir, tiny.make_run(world))
    path = run_dir / "run.yaml"
    run = yaml.safe_load(path.read_text(encoding="utf-8"))
    for changes in (BASE, KINDS[kind]):
        run = merge_settings(run, changes)
    run["data_dir"] = str(world / run["data_dir"])
    path.write_text(yaml.safe_dump(run), encoding="utf-8")
    torch.set_num_threads(threads)
    assert train_run(run_dir, progress=False) == 0
    with (run_dir / "metrics.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 4
    return {column: [float(row[column]) for row in rows] for column in ("loss", "grad_norm")}


def read_stored() -> dict[str, dict[str, list[float]]]:
    stored: dict[str, dict[str, list[float]]] = json.loads(STORED.read_text(encoding="utf-8"))
    return stored


def store(kind: str, steps: Mapping[str, list[float]]) -> None:
    """Put steps on file, one line a kind, and drop kinds that are no more."""
    old = read_stored() if STORED.exists() else {}
    new = {name: old[name] for name in KINDS if name in old} | {kind: steps}
    lines = (f" {json.dumps(name)}: {json.dumps(new[name])}" for name in sorted(new))
    STORED.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def assert_stored(kind: str, steps: Mapping[str, list[float]]) -> None:
    tolerance = BF16_TOLERANCE if kind == "bf16" else TOLERANCE
    for column, values in steps.items():
        expected = read_stored()[kind][column]
        assert values == pytest.approx(expected, rel=tolerance, abs=0), column


@pytest.mark.parametrize("kind", list(KINDS))
def test_four_steps_are_those_on_file(
    kind: str, world: Path, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    steps = train_steps(world, tmp_path / "run", kind, threads=1)
    if pytestconfig.getoption("--update-golden"):
        store(kind, steps)
    assert_stored(kind, steps)


@pytest.mark.parametrize("kind", ["scienceqa, cached", "captions, online, augmented"])
def test_two_threads_take_the_same_steps(kind: str, world: Path, tmp_path: Path) -> None:
    assert_stored(kind, train_steps(world, tmp_path / "run", kind, threads=2))


def test_each_kind_takes_steps_of_its_own() -> None:
    stored = read_stored()
    assert stored.keys() == KINDS.keys()
    # Keeping less of each layer changes no number at all.
    assert stored.pop("checkpointing") == stored["scienceqa, cached"]
    assert stored.pop("checkpointing, online") == stored["scienceqa, online"]
    assert len({json.dumps(steps) for steps in stored.values()}) == len(stored)
