"""What benchmarks/before_after.py measures; each case runs with the package of either side.

Started by it as a process of its own: makes the case ready, then runs it once for each line that it
reads, and answers with a line of JSON.
"""

import dataclasses
import json
import os
import resource
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from made_up_captions import score_captions_alone, write_made_up_captions

ROOT = Path(__file__).resolve().parents[1]
SCIENCEQA = Path(os.environ.get("SCIENCEQA", ROOT.parent / "shared/real/scienceqa_subset"))
"""A folder of ScienceQA; the first 240 test questions are asked."""

NUM_PIECES = 2000

Figures = Sequence[float]
Work = Callable[[], Figures]
"""Does the work once, and returns figures that both sides must agree on."""


def _tower_forward() -> Work:
    """Encode 8 images in inference, as extraction does."""
    import torch

    tower, pixels = _medium_tower(num_images=8)

    def work() -> Figures:
        with torch.inference_mode():
            return [float(tower.encode(pixels).double().square().mean())]

    return work


def _tower_backward() -> Work:
    """Encode 4 images and go back to their pixels, as a training with adapters inside does."""
    tower, pixels = _medium_tower(num_images=4)
    pixels.requires_grad_()

    def work() -> Figures:
        pixels.grad = None
        states = tower.encode(pixels)
        states.double().square().mean().backward()
        return [float(states.detach().double().mean()), float(pixels.grad.double().norm())]

    return work


def _medium_tower(*, num_images: int) -> tuple[Any, Any]:
    import torch

    from ademvl.planning.random_model import random_images, random_tower

    sizes = sizes_of("medium", online=True)
    torch.manual_seed(0)
    return random_tower(sizes.vision, "cpu"), random_images(sizes, num_images)


def _step(llm: str, *, online: bool, num_images: int = 4, text: int = 128) -> Callable[[], Work]:
    """Make a case of training steps on 4 rows, the first `num_images` of them with an image."""

    def prepare() -> Work:
        trainer, _ = make_trainer(sizes_of(llm, online=online), num_images=num_images, text=text)
        return stepping(trainer)

    return prepare


def stepping(trainer: Any) -> Work:
    """Return what does one step of a trainer after the other."""
    steps = iter(range(100))

    def work() -> Figures:
        found = trainer.step(next(steps))
        return [float(found.loss), float(found.grad_norm)]

    return work


def make_trainer(
    sizes: Any, *, num_images: int, text: int, device: str = "cpu", precision: Any = "fp32"
) -> tuple[Any, Any]:
    """Make models with random weights, the method and its optimiser, and 4 rows.

    Args:
        sizes: of the models, and the method.
        num_images: rows with an image, the first ones.
        text: tokens of a row.
        device: of the models.
        precision: of the language model.

    Returns:
        The trainer, and the pixels or features of the first `num_images` rows.
    """
    import torch

    from ademvl.config.optimization import OptimizationSettings
    from ademvl.model.vision_language import VisionLanguageModel
    from ademvl.planning.random_model import (
        random_example,
        random_images,
        random_tower,
        tower_shape_of,
    )
    from ademvl.planning.rows import Row
    from ademvl.training.loop import Trainer
    from ademvl.training.optimizer import build_optimizer
    from ademvl.training.order import StepPlan

    torch.manual_seed(0)
    model = VisionLanguageModel(
        _random_llm()(sizes.llm, precision, device),
        sizes.method,
        random_tower(sizes.vision, device) if sizes.online else None,
        tower_shape=tower_shape_of(sizes.vision),
    )
    model.move_adapter(torch.device(device))
    model.initialize(0)
    optimization = OptimizationSettings(
        epochs=100.0, warmup_epochs=0.0, effective_batch_size=4, per_device_batch_size=4
    )
    images = random_images(sizes, num_images)

    class Images:
        def for_batch(self, batch: object, *, epoch: int = 0) -> torch.Tensor | None:
            return images

    rows = [
        random_example(
            sizes, Row(width=text, scored=6, has_image=number < num_images), number=number
        )
        for number in range(4)
    ]
    trainer = Trainer(
        model.train(),
        dict(model.named_trainable_parameters()),
        build_optimizer(model.method, optimization),
        rows=rows,
        visual_source=Images(),
        plan=StepPlan(4, 0, optimization),
        precision=precision,
    )
    return trainer, images


def _captions(*, num_photos: int = 8) -> Work:
    """Train the tiny models on captions of photos that are decoded and changed at random."""
    import torch

    from ademvl.config.optimization import OptimizationSettings
    from ademvl.data.images import load_augmented_pixels, preprocessing_for
    from ademvl.planning.random_model import random_example
    from ademvl.planning.rows import Row
    from ademvl.training.loop import Trainer
    from ademvl.training.order import StepPlan
    from ademvl.vision.features.source import AugmentedPixels

    sizes = sizes_of("tiny", online=True)
    place = tempfile.TemporaryDirectory(prefix="ademvl-photos-")
    photos = write_photos(Path(place.name), num_photos)
    preprocessing = preprocessing_for("coco_caption", sizes.vision.image_size)
    rows = [
        dataclasses.replace(
            random_example(sizes, Row(width=24, scored=12, has_image=True), number=number),
            image=photo,
        )
        for number, photo in enumerate(photos)
    ]
    other, _ = make_trainer(sizes, num_images=1, text=24)
    optimization = OptimizationSettings(
        epochs=100.0,
        warmup_epochs=0.0,
        effective_batch_size=num_photos,
        per_device_batch_size=num_photos // 2,
    )
    torch.manual_seed(0)
    trainer = Trainer(
        other.model,
        other.parameters,
        other.optimizer,
        rows=rows,
        visual_source=AugmentedPixels(
            lambda path, generator: load_augmented_pixels(path, preprocessing, generator), seed=0
        ),
        plan=StepPlan(len(rows), 0, optimization),
        precision="fp32",
    )
    step = stepping(trainer)

    def work(place: object = place) -> Figures:  # which stays as long as this does
        return step()

    return work


def write_photos(folder: Path, number: int) -> list[Path]:
    """Write JPEG files as large as COCO's photos, 640 x 480 in about 150 KB."""
    import numpy as np
    from PIL import Image

    paths = []
    for seed in range(number):
        generator = np.random.default_rng(seed)
        coarse = generator.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC))
        noisy = smooth + generator.normal(0, 12, smooth.shape)
        paths.append(folder / f"{seed}.jpg")
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=90)
    return paths


def _evaluation(*, layers: int, width: int) -> Callable[[], Work]:
    """Make a case of answering 240 ScienceQA questions with features given."""
    return lambda: answering(make_evaluation(layers=layers, width=width))


def answering(asked: "Asked") -> Work:
    """Return what answers the questions by the package's loop, features given."""
    from ademvl.evaluation import prediction_loop
    from ademvl.evaluation.choosing import answer_batch
    from ademvl.evaluation.predictions import PredictionLog
    from ademvl.model import build
    from ademvl.vision.features import source

    class Features:
        def for_batch(self, batch: Any) -> Any:
            number = int(batch.has_image.sum())
            return asked.features.expand(number, -1, -1) if number else None

    build.build_model = lambda *_, **__: asked.model
    prediction_loop.load_adapter = lambda *_: None
    source.open_visual_source = lambda *_, **__: Features()

    def answer(model: Any, batch: Any, visual: Any) -> Any:
        return answer_batch(model, asked.tokenizer, batch, visual, asked.num_choices)

    def work() -> Figures:
        with tempfile.TemporaryDirectory() as folder:
            ids = [row.item_id for row in asked.rows]
            log = PredictionLog(Path(folder), "scienceqa", header={}, item_ids=ids)
            if hasattr(prediction_loop, "Answerer"):
                answerer = prediction_loop.Answerer(asked.run, lambda: asked.model, answer)
                found = prediction_loop.predict_rows(answerer, asked.rows, log, progress=False)
            else:  # earlier commits take what it holds apart, and load the model themselves
                found = prediction_loop.predict_rows(
                    asked.run, Path(folder), asked.rows, log, answer, label="", progress=False
                )
        return [zlib.crc32(row["text"].encode()) for row in found]

    return work


def _generation(llm: str) -> Callable[[], Work]:
    """Make a case of captions of 4 pictures, 20 tokens each, features given."""

    def prepare() -> Work:
        from ademvl.data.collate import collate
        from ademvl.evaluation.generation import generate
        from ademvl.planning.random_model import random_example
        from ademvl.planning.rows import Row

        sizes = sizes_of(llm, online=False)
        trainer, features = make_trainer(sizes, num_images=4, text=16)
        row = Row(width=16, scored=6, has_image=True)
        rows = [random_example(sizes, row, number=number) for number in range(4)]
        batch = collate(rows, trim_after_labels=False)
        model = trainer.model.eval()

        def work() -> Figures:
            import torch

            with torch.inference_mode():
                texts = generate(model, batch, features, max_new_tokens=20, eos_id=-1)
            return [token for text in texts for token in text]

        return work

    return prepare


class Asked(NamedTuple):
    """Questions with their model.

    Attributes:
        run: settings.
        model: with an untrained method.
        tokenizer: whose pieces are of the questions' own texts.
        rows: tokenised questions, in the order of the file.
        features: of the one picture that all are shown, (1, N, C).
        num_choices: by question id.
    """

    run: Any
    model: Any
    tokenizer: Any
    rows: Sequence[Any]
    features: Any
    num_choices: dict[str, int]


def _random_llm() -> "Callable[..., Any]":
    try:
        from ademvl.planning.random_model import random_llm
    except ImportError:  # its name in earlier commits
        from ademvl.planning.random_model import random_llama as random_llm
    return random_llm


def make_evaluation(*, layers: int, width: int) -> Asked:
    """Read the first 240 test questions, and make a model of this size for them."""
    import torch

    from ademvl.config.run import RunSettings
    from ademvl.data.tokenizer import SentencePieceTokenizer
    from ademvl.methods.adem.settings import AdemSettings
    from ademvl.model.vision_language import VisionLanguageModel
    from ademvl.planning.random_model import random_images, tower_shape_of
    from ademvl.tasks.scienceqa.examples import scienceqa_evaluation_examples
    from ademvl.tasks.scienceqa.reader import load_scienceqa

    try:
        from ademvl.data.rows import tokenize_examples
    except ImportError:  # earlier commits have it elsewhere
        from ademvl.data.collate import tokenize_examples

    run = RunSettings(
        study="benchmark",
        name="evaluation",
        seed=0,
        task="scienceqa",
        data_dir=str(SCIENCEQA),
        method=AdemSettings(),
    )
    dataset = load_scienceqa(SCIENCEQA)
    problems = {problem.question_id: problem for problem in dataset.split("test")}
    examples = scienceqa_evaluation_examples(dataset, "test", run.prompts, "shown")[:240]
    tokenizer = SentencePieceTokenizer(pieces([example.prompt for example in examples]))
    sizes = sizes_of("medium", online=False)
    shape = dataclasses.replace(
        sizes.llm,
        width=width,
        ffn_width=width * 43 // 16,
        layers=layers,
        heads=width // 64,
        kv_heads=width // 64,
        vocabulary=tokenizer.vocab_size,
    )
    torch.manual_seed(0)
    model = VisionLanguageModel(
        _random_llm()(shape, "fp32", "cpu"),
        sizes.method,
        tower_shape=tower_shape_of(sizes.vision),
    )
    model.initialize(0)
    window, slots = run.prompts.window, run.method.text_places.with_image
    try:
        from ademvl.data.rows import RowLayout

        layout = RowLayout.of_run(run, tokenizer)
    except (ImportError, AttributeError):  # earlier commits take what it holds apart
        rows = tokenize_examples(
            tokenizer, examples, max_seq_len=window, num_slots=slots, with_prefix=True
        )
    else:
        rows = tokenize_examples(tokenizer, examples, layout, max_seq_len=window)
    num_choices = {example.item_id: len(problems[example.item_id].choices) for example in examples}
    return Asked(run, model, tokenizer, rows, random_images(sizes, 1), num_choices)


def pieces(texts: Sequence[str]) -> Any:
    """Train pieces about as long as LLaMA's on the texts themselves."""
    import io

    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=model, vocab_size=NUM_PIECES,
        hard_vocab_limit=False, minloglevel=2, num_threads=1,
    )  # fmt: skip
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def sizes_of(llm: str, *, online: bool, method: Any = None) -> Any:
    """Return the sizes of the tiny or the medium models, by default with ADEM-VL."""
    from ademvl.config.run import BackboneSettings
    from ademvl.methods.adem.settings import AdemSettings
    from ademvl.planning.costs import sizes_with
    from ademvl.planning.shapes import LlmShape, vision_shape

    backbones = BackboneSettings(tower="ViT-L-14-quickgelu", tower_weights="openai")
    vision = dataclasses.replace(vision_shape(backbones), blocks=6)
    shape = LlmShape(
        width=1024, ffn_width=2752, layers=8, heads=16, kv_heads=16, head_dim=64, vocabulary=32000
    )
    if llm == "tiny":
        vision = dataclasses.replace(vision, width=128, blocks=4, head_width=32)
        shape = LlmShape(
            width=256, ffn_width=688, layers=4, heads=4, kv_heads=4, head_dim=64, vocabulary=1000
        )
    return sizes_with(method or AdemSettings(), llm=shape, vision=vision, online=online)


def _caption_scores() -> Work:
    """Score 5,000 captions in a process of its own."""
    place = tempfile.TemporaryDirectory(prefix="ademvl-captions-")
    folder = Path(place.name)
    write_made_up_captions(folder)

    def work(place: object = place) -> Figures:  # which stays as long as this does
        return list(score_captions_alone(folder).values())

    return work


CASES: dict[str, Callable[[], Work]] = {
    "tower_forward": _tower_forward,
    "tower_forward_backward": _tower_backward,
    "step_tiny_online": _step("tiny", online=True, text=256),
    "step_medium_online": _step("medium", online=True),
    "step_medium_online_2_of_4": _step("medium", online=True, num_images=2),
    "step_medium_cached": _step("medium", online=False),
    "step_tiny_augmented_photos": _captions,
    "evaluation_2_layers_of_256": _evaluation(layers=2, width=256),
    "evaluation_4_layers_of_512": _evaluation(layers=4, width=512),
    "captions_generated_tiny": _generation("tiny"),
    "captions_generated_medium": _generation("medium"),
    "captions_scored": _caption_scores,
}


CLOCKS: dict[str, Callable[[], float]] = {"step_tiny_augmented_photos": time.perf_counter}
"""Cases whose gain is that two things are done at once, which processor seconds do not show."""


def processor_seconds() -> float:
    """Return what this process has taken so far, with the processes that it started."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


def _memory_mib(field: str) -> float:
    """Return what Linux says of this process's memory: VmRSS now, VmHWM at most so far."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split(f"{field}:")[1].split()[0]) / 1024


def main() -> None:
    """Serve one case."""
    case, threads, code = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    import torch

    import ademvl
    from ademvl.machine.cpu_kernels import fast_cpu

    found = Path(ademvl.__file__).resolve().parents[1]
    if found != code.resolve():
        sys.exit(f"ademvl comes from {found}, expected {code}")
    torch.set_num_threads(threads)
    with fast_cpu(torch.device("cpu")):
        work, clock = CASES[case](), CLOCKS.get(case, processor_seconds)
        loaded = _memory_mib("VmRSS")
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # VmHWM begins anew
        work()  # warms up
        print("ready", flush=True)
        for _ in sys.stdin:
            started = clock()
            figures = work()
            seconds = clock() - started
            extra = _memory_mib("VmHWM") - loaded
            answer = {"seconds": seconds, "figures": list(figures), "extra_mib": extra}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
