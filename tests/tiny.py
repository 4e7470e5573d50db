"""Tiny real things for tests: a two-layer Llama, a CLIP for 8-pixel images, a dozen questions."""

import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image
from torch import nn

from ademvl.config.method import ClipAdapterSettings
from ademvl.config.optimization import OptimizationSettings
from ademvl.config.run import BackboneSettings, FeatureSettings, PromptSettings, RunSettings
from ademvl.config.settings_files import run_to_json
from ademvl.methods.adem.settings import AdemSettings
from ademvl.methods.base import DecoderShape, Method
from ademvl.storage.files import sha256_file
from ademvl.vision.tower import TowerShape

TOWER = "tiny-vit"
_COLORS = ("red", "green", "blue", "gray")
_RGB = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "gray": (128, 128, 128)}


def make_llm(folder: Path, *, seed: int = 0, width: int = 32) -> Path:
    """Write a random two-layer Llama, `width` wide, with its SentencePiece tokenizer."""
    from tests.random_decoders import random_decoder

    folder.mkdir(parents=True, exist_ok=True)
    vocab_size = make_tokenizer(folder / "tokenizer.model")
    llm = random_decoder(
        vocabulary=vocab_size,
        width=width,
        kv_heads=2,
        seed=seed,
        max_position_embeddings=256,
        bos_token_id=1,
        eos_token_id=2,
    )
    llm.save_pretrained(folder)
    return folder


def make_tokenizer(path: Path) -> int:
    """Train a SentencePiece model on a few sentences; return its number of pieces."""
    sentences = [
        f"Context: {hint}\nQuestion: What color is it?\nOptions: (A) {a} (B) {b}\nResponse:The "
        f"answer is {letter}. a picture of a {a} square Image: N/A"
        for hint in ("N/A", "The square is red.")
        for a in _COLORS
        for b in _COLORS
        for letter in "AB"
    ]
    letters = ["\u2581A", "\u2581B"]  # one token each, as in LLaMA
    return train_tokenizer(path, sentences, vocab_size=100, user_defined_symbols=letters)


def train_tokenizer(path: Path, sentences: Sequence[str], **options: Any) -> int:
    """Train a SentencePiece model that keeps every character; return its number of pieces."""
    from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        hard_vocab_limit=False,
        character_coverage=1.0,
        num_threads=1,
        minloglevel=2,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        **options,
    )
    path.write_bytes(model.getvalue())
    return int(SentencePieceProcessor(model_file=str(path)).vocab_size())


def make_tower(folder: Path, *, seed: int = 0) -> Path:
    """Write a random three-block CLIP for 8-pixel images, 4 x 4 grid; return its weights file.

    The architecture's name is `TOWER`, with OpenAI's activation `<TOWER>-quickgelu`;
    `register_tower` makes them known to open_clip.
    """
    import open_clip

    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "embed_dim": 16,
        "vision_cfg": {
            "image_size": 8,
            "layers": 3,
            "width": 16,
            "head_width": 8,
            "patch_size": 2,
        },
        "text_cfg": {
            "context_length": 8,
            "vocab_size": 16,
            "width": 16,
            "heads": 2,
            "layers": 1,
        },
    }
    (folder / f"{TOWER}.json").write_text(json.dumps(config), encoding="utf-8")
    quick = json.dumps(config | {"quick_gelu": True})
    (folder / f"{TOWER}-quickgelu.json").write_text(quick, encoding="utf-8")
    register_tower(folder)
    weights = folder / "tower.pt"
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        torch.save(open_clip.create_model(TOWER).state_dict(), weights)
    return weights


def register_tower(folder: Path) -> None:
    """Make the tower's architectures known to open_clip; needed once in each process."""
    import open_clip

    open_clip.add_model_config(folder)


def make_scienceqa(root: Path, *, num_train: int = 12, num_val: int = 2, num_test: int = 4) -> Path:
    """Write questions for the color of an 8-pixel image; every third is text-only."""
    root.mkdir(parents=True, exist_ok=True)
    problems: dict[str, Any] = {}
    splits: dict[str, list[str]] = {}
    sizes = {"train": num_train, "val": num_val, "test": num_test}
    for split, size in sizes.items():
        splits[split] = []
        for _ in range(size):
            number = len(problems)
            question_id = str(number + 1)
            problems[question_id] = _problem(number, split)
            splits[split].append(question_id)
            if problems[question_id]["image"]:
                _write_image(root / "images" / split / question_id / "image.png", number)
    for name, content in (("problems", problems), ("pid_splits", splits)):
        (root / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return root


def _problem(number: int, split: str) -> dict[str, Any]:
    right = _COLORS[number % 4]
    wrong = _COLORS[(number + 1 + number // 4 % 3) % 4]
    answer = number // 2 % 2
    is_text_only = number % 3 == 2
    return {
        "question": "What color is the square?",
        "choices": [wrong, right] if answer else [right, wrong],
        "answer": answer,
        "hint": f"The square is {right}." if is_text_only else "",
        "image": None if is_text_only else "image.png",
        "task": "closed choice",
        "grade": f"grade{number % 12 + 1}",
        "subject": ("natural science", "social science", "language science")[number % 3],
        "topic": "color",
        "category": "color",
        "skill": "name the color",
        "lecture": "",
        "solution": "",
        "split": split,
    }


def _write_image(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (8, 8), _RGB[_COLORS[number % 4]])
    image.putpixel((number % 8, number // 8 % 8), (number, 0, 255 - number))
    image.save(path)


def make_captions(root: Path, *, num_train: int = 6) -> Path:
    """Write two captions of each 8-pixel image of the train split."""
    rows = [
        {"image": f"{number}.png", "caption": f"a {_COLORS[number % 4]} {noun}"}
        for number in range(num_train)
        for noun in ("square", "image")
    ]
    for number in range(num_train):
        _write_image(root / "images" / f"{number}.png", number)
    (root / "karpathy").mkdir()
    (root / "karpathy/coco_karpathy_train.json").write_text(json.dumps(rows), encoding="utf-8")
    return root


def make_instructions(root: Path, *, num_items: int = 12) -> Path:
    """Write instructions in LaVIN's form about 8-pixel images; every third is text-only."""
    rows = []
    for number in range(num_items):
        color, image = _COLORS[number % 4], f"{number:012d}.jpg"
        question = f"Is the square {color}?" if number % 2 else "What color is it?"
        row: dict[str, Any] = {
            "qid": f"item_{number}",
            "instruction": f"Instruction: {question}\nResponse:",
            "answer": "Yes." if number % 2 else color,
            "image": None,
            "image_source": None,
        }
        if number % 3 != 2:
            row |= {"image": image, "image_source": "mscoco"}
            _write_image(root / "images" / "train2014" / f"COCO_train2014_{image}", number)
        rows.append(row)
    rows[2]["answer"] = ""  # as a few items of Alpaca
    root.mkdir(parents=True, exist_ok=True)
    (root / "all_data.json").write_text(json.dumps({"all": rows}), encoding="utf-8")
    return root


def make_mme(root: Path) -> Path:
    """Write two of MME's tasks: one flat, one with its images apart, as in the published folder."""
    for task, texts, images in (
        ("color", "", ""),
        ("landmark", "questions_answers_YN", "images"),
    ):
        for number, color in enumerate(_COLORS[:3]):
            text = root / task / texts / f"{color}.txt"
            text.parent.mkdir(parents=True, exist_ok=True)
            questions = f"Is the square {color}?\tYes\nIs the square gray?\tNo\n"
            text.write_text(questions, encoding="utf-8")
            _write_image(root / task / images / f"{color}.png", number)
    return root


def make_aokvqa(root: Path, *, num_train: int = 8, num_val: int = 4) -> Path:
    """Write a copy of A-OKVQA as it is published, with COCO's folders of 2017 beside it."""
    root.mkdir(parents=True, exist_ok=True)
    for split, number in (("train", num_train), ("val", num_val), ("test", 1)):
        rows = []
        for place in range(number):
            image_id = 100 * (split == "val") + place
            row: dict[str, Any] = {
                "split": split,
                "image_id": image_id,
                "question_id": f"{split}-{place}",
                "question": "What color is the square?",
                "choices": list(_COLORS),
                "direct_answers": [_COLORS[place % 4]] * 10,
            }
            if split != "test":
                row |= {"correct_choice_idx": place % 4, "rationales": ["One sees it."] * 3}
                folder = root / "coco" / f"{split}2017"
                _write_image(folder / f"{image_id:012d}.jpg", place)
            rows.append(row)
        file = root / f"aokvqa_v1p0_{split}.json"
        file.write_text(json.dumps(rows), encoding="utf-8")
    return root


def method_of(module: nn.Module, method_class: type[Method] = Method) -> Method:
    """Return a method that owns the parameters of a module and computes nothing."""
    shape = TowerShape(width=1, num_blocks=2, image_size=1, num_grid_tokens=1, output_width=8)
    llm = DecoderShape(width=1, layers=1, heads=1, kv_heads=1, head_dim=1, ffn_width=1)
    settings = AdemSettings(scales=(1,))
    method = method_class(settings, llm=llm, tower=shape, trains_tower=False)
    method.add_module("module", module)
    return method


def make_run(folder: Path, **changes: Any) -> RunSettings:
    """Write everything that a ScienceQA run needs below `folder` and return its settings.

    Args:
        folder: gets `llm`, `tower`, `data` and `features`; what is there already is used.
        changes: fields of the run, or of its optimization, that differ from the tiny defaults.
    """
    llm, tower, data = folder / "llm", folder / "tower", folder / "data" / "scienceqa"
    weights = tower / "tower.pt"
    if not (llm / "config.json").is_file():
        make_llm(llm)
    if weights.is_file():
        register_tower(tower)
    else:
        make_tower(tower)
    if not (data / "problems.json").is_file():
        make_scienceqa(data)
    defaults = {
        "epochs": 4.0,
        "warmup_epochs": 0.5,
        "base_lr": 0.5,
        "effective_batch_size": 4,
        "per_device_batch_size": 4,
        "state_interval_seconds": 1e9,
        "log_interval_steps": 2,
    }
    fields = {field.name for field in dataclasses.fields(OptimizationSettings)}
    optimization = {key: changes.pop(key) for key in list(changes) if key in fields}
    run = RunSettings(
        study="tiny",
        name="adem",
        seed=0,
        task="scienceqa",
        data_dir=str(data),
        method=AdemSettings(
            scales=(16, 4),
            projection_width=8,
            clip_adapter=ClipAdapterSettings(dim=2),
        ),
        backbones=BackboneSettings(llm=str(llm), tower=TOWER, tower_weights=str(weights)),
        features=FeatureSettings(
            mode="cached", precision="fp32", cache_dir=str(folder / "features")
        ),
        prompts=PromptSettings(max_seq_len=128),
        optimization=OptimizationSettings(**{**defaults, **optimization}),
    )
    return dataclasses.replace(run, **changes)


def write_run(run_dir: Path, run: RunSettings) -> Path:
    """Write `run_dir`/run.yaml and return the directory."""
    run_dir.mkdir(parents=True, exist_ok=True)
    settings = yaml.safe_dump(json.loads(run_to_json(run)), sort_keys=False)
    (run_dir / "run.yaml").write_text(settings, encoding="utf-8")
    return run_dir


def set_weights(run_dir: Path, value: float) -> None:
    """Set all weights of a run's adapter to one number, as if it had been trained to that.

    With 1e38 they are finite, and what is computed with them is not.
    """
    from safetensors.torch import load_file, save_file

    weights = run_dir / "adapter" / "adapter.safetensors"
    state = {name: torch.full_like(tensor, value) for name, tensor in load_file(weights).items()}
    save_file(state, weights)
    path = run_dir / "adapter" / "adapter.json"
    description = json.loads(path.read_text(encoding="utf-8"))
    description["sha256"] = sha256_file(weights)
    path.write_text(json.dumps(description), encoding="utf-8")


def train_in_child(run_dir: Path, environ: Mapping[str, str]) -> None:
    """Train a run on one thread and end the process with the exit code; for kill tests.

    Args:
        run_dir: directory of the run.
        environ: variables that make the child one of several processes.
    """
    import os
    import sys

    from ademvl.config.settings_files import read_run
    from ademvl.training.launch import train

    os.environ.update(environ)
    torch.set_num_threads(1)
    register_tower(Path(read_run(run_dir).backbones.tower_weights).parent)
    sys.exit(train(run_dir))
