"""Protects that pretrained systems are asked as transformers itself would ask them.

The references here call the classes of transformers directly, one row at a time, with the inputs
that their own processors make.
"""

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.testing import assert_close

from ademvl.config.evaluation import DecodingSettings, EvaluationSettings
from ademvl.config.run import RunSettings
from ademvl.data.collate import Batch, collate
from ademvl.data.examples import Example
from ademvl.data.rows import TokenizedExample
from ademvl.errors import SettingsError
from ademvl.evaluation.generation import generate
from ademvl.evaluation.run import evaluate_run
from ademvl.evaluation.task import load_run_tokenizer, tokenize_prompts
from ademvl.systems.pretrained import PretrainedSystem
from ademvl.systems.registry import load_system, text_of
from ademvl.tasks.registry import evaluation_examples
from ademvl.training.run import train_run
from tests.systems.tiny_systems import SYSTEMS, make_system_run
from tests.tiny import write_run

TOLERANCE = 2e-5  # fp32, other order of sums in a padded batch
NEW_TOKENS = 5


class Asked(NamedTuple):
    """A tiny system with the test split of a tiny ScienceQA."""

    run: RunSettings
    system: PretrainedSystem
    examples: list[Example]
    rows: list[TokenizedExample]


@pytest.fixture(scope="module", params=SYSTEMS)
def asked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    run = make_system_run(tmp_path_factory.mktemp("world"), request.param)
    examples = evaluation_examples(run)
    rows = tokenize_prompts(run, load_run_tokenizer(run), examples, max_new_tokens=1)
    return Asked(run, load_system(run, torch.device("cpu")), examples, rows)


@pytest.fixture
def blip(tmp_path_factory: pytest.TempPathFactory) -> RunSettings:
    return make_system_run(tmp_path_factory.mktemp("blip"), "blip")


def batch_of(asked: Asked, rows: list[TokenizedExample]) -> tuple[Batch, Tensor | None]:
    """Put rows into a batch with its pixels."""
    batch = collate(rows, trim_after_labels=False)
    return batch, asked.system.open_images().for_batch(batch)


def own_inputs(asked: Asked) -> Iterator[dict[str, Tensor]]:
    """Give what the processors of transformers make of each question, written out here."""
    from transformers import (
        AutoImageProcessor,
        AutoTokenizer,
        Blip2Processor,
        BlipProcessor,
        LlavaProcessor,
    )

    folder, name = asked.run.backbones.llm, asked.run.method.name
    tokenizer = AutoTokenizer.from_pretrained(folder)
    images = AutoImageProcessor.from_pretrained(folder)
    for example in asked.examples:
        question = example.prompt.removesuffix("Response:The answer is").strip()
        picture = Image.open(example.image).convert("RGB") if example.image else None
        if name == "llava":
            processor: Any = LlavaProcessor(
                images, tokenizer, patch_size=4, vision_feature_select_strategy="default",
                num_additional_image_tokens=1,
            )  # fmt: skip
            shown = "<image>\n" if picture else ""
            text = f"USER: {shown}{question} ASSISTANT: The answer is"
            given = {"images": picture} if picture else {}
            made = processor(text=text, **given, return_tensors="pt")
        else:
            picture = picture or Image.new("RGB", (8, 8))
            if name == "blip2":
                processor = Blip2Processor(images, tokenizer, num_query_tokens=3)
                text = f"{question} Answer: The answer is"
            else:
                processor = BlipProcessor(images, tokenizer)
                text = f"{question} The answer is"
            made = processor(images=picture, text=text, return_tensors="pt")
            if example.image is None:
                made["pixel_values"] = torch.zeros_like(made["pixel_values"])
        yield {key: made[key] for key in ("input_ids", "pixel_values") if key in made}


def test_rows_are_what_the_processor_of_transformers_makes(asked: Asked) -> None:
    for row, inputs in zip(asked.rows, own_inputs(asked), strict=True):
        expected = inputs["input_ids"][0].tolist()
        if asked.run.method.name == "blip":  # as `generate` changes them
            expected = [asked.system.model.config.text_config.bos_token_id, *expected[1:-1]]
        assert row.ids.tolist() == expected


def test_logits_are_those_of_a_call_of_transformers(asked: Asked) -> None:
    for row, inputs in zip(asked.rows, own_inputs(asked), strict=True):
        inputs["input_ids"] = torch.from_numpy(row.ids).long()[None]
        expected = asked.system.model(**inputs).logits[:, -1]
        found = asked.system.next_token_logits(*batch_of(asked, [row]))
        assert_close(found, expected, atol=TOLERANCE, rtol=0)
        assert expected.std() > 0.1


def test_generated_ids_are_those_of_a_call_of_transformers(asked: Asked) -> None:
    config = asked.system.model.config
    end = config.text_config.sep_token_id if asked.run.method.name == "blip" else None
    for row, inputs in zip(asked.rows, own_inputs(asked), strict=True):
        prompt_length = inputs["input_ids"].shape[1] - (asked.run.method.name == "blip")
        options = {"max_new_tokens": NEW_TOKENS, "do_sample": False}
        expected = asked.system.model.generate(**inputs, **options)[0, prompt_length:].tolist()
        eos_id = config.text_config.eos_token_id if end is None else end
        found = generate(
            asked.system, *batch_of(asked, [row]), max_new_tokens=NEW_TOKENS, eos_id=eos_id
        )
        assert found == [expected[: expected.index(eos_id)] if eos_id in expected else expected]


@pytest.mark.parametrize("strategy", ["greedy", "beam", "sample"])
def test_a_batch_changes_no_text(asked: Asked, strategy: Any) -> None:
    decoding = DecodingSettings(strategy=strategy, num_beams=3)
    options: dict[str, Any] = {"max_new_tokens": NEW_TOKENS, "eos_id": 1, "decoding": decoding}

    together = generate(asked.system, *batch_of(asked, asked.rows), **options)

    alone = [generate(asked.system, *batch_of(asked, [row]), **options)[0] for row in asked.rows]
    assert together == alone
    assert len({tuple(ids) for ids in together}) > 1


def test_a_batch_changes_no_logits(asked: Asked) -> None:
    together = asked.system.next_token_logits(*batch_of(asked, asked.rows))

    for number, row in enumerate(asked.rows):
        alone = asked.system.next_token_logits(*batch_of(asked, [row]))[0]
        assert_close(together[number], alone, atol=TOLERANCE, rtol=0)


def test_an_image_changes_the_logits(asked: Asked) -> None:
    shown = [row for row in asked.rows if row.image is not None]
    batch, pixels = batch_of(asked, shown)
    assert pixels is not None

    change = asked.system.next_token_logits(batch, pixels) - asked.system.next_token_logits(
        batch, -pixels
    )
    assert change.abs().max() > 1e-3


def test_the_prompt_is_left_as_it_was(asked: Asked) -> None:
    batch, pixels = batch_of(asked, asked.rows)
    before = batch.input_ids.clone()

    generate(asked.system, batch, pixels, max_new_tokens=2, eos_id=1)

    assert torch.equal(batch.input_ids, before)


def test_text_of_the_data_gives_no_image_token(asked: Asked) -> None:
    shown = next(example for example in asked.examples if example.image)
    example = dataclasses.replace(shown, prompt="What is <image> here?Response:")
    tokenizer = load_run_tokenizer(asked.run)

    rows = tokenize_prompts(asked.run, tokenizer, [example], max_new_tokens=1)

    config = asked.system.model.config
    places = text_of(asked.run).image_places()
    assert rows[0].ids.tolist().count(getattr(config, "image_token_id", -1)) == places.number


def test_long_contexts_are_shortened_and_image_places_are_not_counted(asked: Asked) -> None:
    context = "red green blue " * 50
    example = dataclasses.replace(
        asked.examples[0], prompt=f"{context} What?Response:The answer is", context=context.strip()
    )
    prompts = dataclasses.replace(asked.run.prompts, max_seq_len=40)
    run = dataclasses.replace(asked.run, prompts=prompts)

    (row,) = tokenize_prompts(run, load_run_tokenizer(run), [example], max_new_tokens=1)

    assert row.is_shortened
    assert len(row.ids) <= 39 + text_of(run).image_places().number
    assert row.ids[-3:].tolist() == asked.rows[0].ids[-3:].tolist()  # what asks for the answer


def test_a_run_is_noted_and_evaluated(asked: Asked, tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run" / "seed0", asked.run)

    assert train_run(run_dir, progress=False) == 0
    evaluate_run(run_dir, progress=False)

    scores = json.loads((run_dir / "scores/scienceqa.json").read_text(encoding="utf-8"))
    assert scores["n"] == len(asked.examples)
    provenance = json.loads((run_dir / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["given"]["system"] == asked.run.method.name
    assert "trainable_parameters" not in provenance


def test_answers_by_likelihood_name_a_choice_each(blip: RunSettings, tmp_path: Path) -> None:
    likelihood = EvaluationSettings(answer_by="likelihood")
    run_dir = write_run(tmp_path / "seed0", dataclasses.replace(blip, evaluation=likelihood))
    train_run(run_dir, progress=False)
    evaluate_run(run_dir, progress=False)
    lines = (run_dir / "predictions/scienceqa.jsonl").read_text("utf-8").splitlines()
    assert {json.loads(line)["predicted_index"] for line in lines} <= {0, 1}


def test_captions_are_asked_for_with_the_systems_own_words(asked: Asked) -> None:
    run = dataclasses.replace(asked.run, task="coco_caption")
    shown = next(example for example in asked.examples if example.image)
    tokenizer = load_run_tokenizer(run)

    (row,) = tokenize_prompts(run, tokenizer, [shown], max_new_tokens=5)

    asked_for = tokenizer.decode([i for i in row.ids[1:] if i != row.ids[0]]).strip()
    words = {"llava": "short sentence. ASSISTANT:", "blip": "a picture of", "blip2": "a photo of"}
    assert asked_for.endswith(words[run.method.name])


def test_another_systems_checkpoint_is_refused(blip: RunSettings) -> None:
    from ademvl.systems.llava.settings import LlavaSettings

    with pytest.raises(SettingsError, match="type blip, but method llava needs llava"):
        text_of(dataclasses.replace(blip, method=LlavaSettings()))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("image_token_index", None, "has no image_token_index"),
        ("text_config", {"model_type": "t5", "vocab_size": 32}, "a language model with an encoder"),
    ],
)
def test_blip2_that_cannot_be_asked_is_refused(
    tmp_path: Path, key: str, value: object, message: str
) -> None:
    run = make_system_run(tmp_path, "blip2")
    other = tmp_path / "other"
    shutil.copytree(run.backbones.llm, other)
    config = json.loads((other / "config.json").read_text("utf-8"))
    config[key] = value
    config.pop("use_decoder_only_language_model", None)
    (other / "config.json").write_text(json.dumps(config), encoding="utf-8")
    backbones = dataclasses.replace(run.backbones, llm=str(other))

    with pytest.raises(SettingsError, match=message):
        text_of(dataclasses.replace(run, backbones=backbones))
