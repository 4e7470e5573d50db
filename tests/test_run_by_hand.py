"""Protects the commands that do one run by hand, without Snakemake: they work as written."""

import json
import re
import shlex
from pathlib import Path

import pytest

from ademvl.cli import main
from tests.conftest import PROJECT_ROOT

pytest.importorskip("easy_vqa", reason="the package easy-vqa is not installed")

PAGE = PROJECT_ROOT / "docs/from_the_authors_commands.md"
STUDY = """\
study: paper_7b
include: [workflow/studies/smoke.yaml]
datasets:
  easy_vqa_smoke: {train_questions: 40, val_questions: 10, test_questions: 20,
    caption_train_images: 20, caption_val_images: 10, caption_test_images: 10}
runs:
  scienceqa_7b: {}
  scienceqa_7b_matched: {adapter: scienceqa_7b, evaluation: {answer_by: likelihood}}
"""


def test_one_run_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(STUDY)
    for line in block.replace("workflow/studies/paper-7b.yaml", "small.yaml").splitlines():
        assert main(shlex.split(line, comments=True)[1:]) == 0, line
    runs = Path("results/paper_7b/runs")
    for name in ("scienceqa_7b", "scienceqa_7b_matched"):
        scores = json.loads((runs / name / "seed0/scores/scienceqa.json").read_text())
        assert scores["n"] == 20
    assert main(["data", "convert", "--study", "small.yaml", "nowhere"]) == 2
