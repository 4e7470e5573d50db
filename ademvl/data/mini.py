"""Converts easy-VQA into the layouts of ScienceQA and of COCO captions: the mini study's data.

Everything downstream reads these folders with the code that reads the real data sets. Images of
the package's train split are divided once into train and validation, for both layouts together;
the test split is the package's own.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from ademvl.config.dataset import DatasetSettings
from ademvl.data.easy_vqa import (
    COLORS,
    YES_NO,
    QuestionType,
    SourceImage,
    SourceQuestion,
    find_source,
    is_negated,
    load_questions,
    mentioned,
    question_type,
)
from ademvl.data.mini_layout import CaptionedImage, Labels, MiniQuestion, MiniSplit, write_mini
from ademvl.data.mini_wordings import draw_choices, reword
from ademvl.errors import SettingsError
from ademvl.randomness import derive_seed

CAPTION_TEMPLATES = (
    "a {color} {shape} on a light background",
    "one {color} {shape} on a light background",
    "a single {color} {shape} on a light background",
    "a plain {color} {shape} on an empty background",
    "a {color} {shape} on an otherwise empty background",
    "just one {color} {shape} on an empty background",
    "a simple drawing of a {color} {shape}",
    "a {shape} that is {color} on a light background",
)
"""Noun phrases that read after "a picture of". They share runs of four words, so that one caption
of an image scores above zero in BLEU-4 against the others."""
REFERENCES_PER_IMAGE = 5
TYPE_SHARES: Mapping[QuestionType, float] = {"yes_no": 0.5, "shape": 0.25, "color": 0.25}
"""Share of each question type. In the package three of four questions are yes/no, and their
wording alone tells the answer of most; here yes and no are equally frequent for each wording."""

_LABELS: Mapping[QuestionType, Labels] = {
    "color": Labels(
        "natural science",
        "physics",
        "Light and color",
        "Name the color of a shape",
        "The color of a shape is the color of the light that it sends to the eye.",
    ),
    "shape": Labels(
        "social science",
        "signs",
        "Signs and symbols",
        "Name a shape",
        "A circle has no corner, a triangle has three corners and a rectangle has four.",
    ),
    "yes_no": Labels(
        "language science",
        "grammar",
        "Questions and answers",
        "Answer a question about presence",
        "The answer is yes when the shape that the question names is there, and else no.",
    ),
}
_NEGATED = _LABELS["yes_no"]._replace(
    skill="Answer a question about absence",
    lecture="The answer is yes when the shape that the question names is not there, and else no.",
)


def image_references(image: SourceImage, *, seed: int) -> tuple[str, ...]:
    """Return the reference captions of an image, the same wherever the image is used."""
    generator = random.Random(derive_seed(seed, "captions", image.split, image.number))
    templates = generator.sample(CAPTION_TEMPLATES, REFERENCES_PER_IMAGE)
    return tuple(text.format(color=image.color, shape=image.shape) for text in templates)


def convert_easy_vqa(
    output_dir: Path, settings: DatasetSettings, *, source: Path | None = None
) -> None:
    """Write `scienceqa/`, `coco_caption/` and `manifest.json` under `output_dir`.

    The folder appears complete or not at all; an earlier conversion in it is replaced.

    Args:
        output_dir: must not exist, be empty, or hold an earlier conversion.
        settings: sizes and seed.
        source: data folder of the package; the installed package's by default.

    Raises:
        ToolError: the package is not installed.
        DataError: the package is damaged, or `output_dir` holds something else.
        SettingsError: more questions or images asked for than there are.
    """
    version = "unknown"
    if source is None:
        source, version = find_source()
    write_mini(
        output_dir,
        settings,
        _select(source, settings),
        source={"package": "easy-vqa", "version": version},
        description="easy-VQA with captions from templates",
    )


def _select(source: Path, settings: DatasetSettings) -> dict[str, MiniSplit]:
    package_train = load_questions(source, "train")
    package_test = load_questions(source, "test")
    train_images = _shuffled_images(package_train, settings)
    test_images = _shuffled_images(package_test, settings)
    num_val = settings.caption_val_images
    held_out = set(train_images[:num_val])
    pools = {
        "train": [question for question in package_train if question.image not in held_out],
        "val": [question for question in package_train if question.image in held_out],
        "test": package_test,
    }
    images = {"train": train_images[num_val:], "val": train_images[:num_val], "test": test_images}
    selections = {}
    for name, pool in pools.items():
        questions = _draw_questions(name, pool, settings)
        wanted = getattr(settings, f"caption_{name}_images")
        if wanted > len(images[name]):
            raise SettingsError(
                f"caption_{name}_images: {wanted} asked for, {len(images[name])} available"
            )
        chosen = sorted(images[name][:wanted], key=lambda image: image.number)
        captioned = (
            CaptionedImage(image, image_references(image, seed=settings.seed)) for image in chosen
        )
        selections[name] = MiniSplit(questions, tuple(captioned))
    return selections


def _shuffled_images(
    questions: Sequence[SourceQuestion], settings: DatasetSettings
) -> list[SourceImage]:
    images = sorted({question.image for question in questions}, key=lambda image: image.number)
    random.Random(derive_seed(settings.seed, "images", images[0].split)).shuffle(images)
    return images


def _draw_questions(
    split: str,
    pool: Sequence[SourceQuestion],
    settings: DatasetSettings,
) -> tuple[MiniQuestion, ...]:
    """Fill each stratum's quota in shuffled order."""
    generator = random.Random(derive_seed(settings.seed, "questions", split))
    wanted: int = getattr(settings, f"{split}_questions")
    quotas = _quotas(wanted)
    drawn: list[MiniQuestion] = []
    for source in generator.sample(pool, len(pool)):
        stratum = _stratum(source)
        if not quotas[stratum]:
            continue
        share = settings.text_only_fraction
        is_text_only = int((len(drawn) + 1) * share) > int(len(drawn) * share)
        caption = generator.choice(image_references(source.image, seed=settings.seed))
        quotas[stratum] -= 1
        choices = draw_choices(question_type(source.text), source.answer, generator)
        grade = generator.randint(7, 12) if is_negated(source.text) else generator.randint(1, 6)
        hint = caption if is_text_only else ""
        text = reword(source.text, generator)
        drawn.append(
            MiniQuestion(
                image=source.image,
                text=text,
                choices=choices,
                answer=source.answer,
                hint=hint,
                caption=caption,
                grade=grade,
                kind=question_type(source.text),
                labels=_NEGATED if is_negated(source.text) else _LABELS[question_type(source.text)],
                solution=f"The shape is a {source.image.color} {source.image.shape}.",
            )
        )
    if quotas.total():
        raise SettingsError(_shortage(split, wanted, pool))
    return tuple(drawn)


def _shortage(split: str, wanted: int, pool: Sequence[SourceQuestion]) -> str:
    """Say which questions are too few, and the largest smaller number that can be drawn."""
    available, needed = Counter(map(_stratum, pool)), _quotas(wanted)
    short = [
        f"{_describe(stratum)}: {available[stratum]} of {number}"
        for stratum, number in needed.items()
        if available[stratum] < number
    ]
    fewer = range(min(wanted - 1, len(pool)), 0, -1)
    possible = next((n for n in fewer if _quotas(n) <= available), 0)
    remedies = [f"ask for {possible}"] if possible else []
    remedies += ["raise caption_val_images"] if split == "val" else []
    num_images = len({question.image for question in pool})
    return (
        f"{split}_questions: {wanted} asked for, but the {num_images} images of the split have too "
        f"few questions, with yes and no in balance ({'; '.join(short)}). To mend it, "
        f"{' or '.join(remedies)}."
    )


def _describe(stratum: tuple[object, ...]) -> str:
    kind, *cell = stratum
    if not cell:
        return f"about the {kind}"
    asks_color, negated, answer = cell
    asked = "color" if asks_color else "shape alone"
    return f"yes or no about the {asked}{', with not' if negated else ''}, answer {answer}"


def _stratum(question: SourceQuestion) -> tuple[object, ...]:
    """Wordings among which yes and no are balanced; one stratum for each other type."""
    kind = question_type(question.text)
    if kind != "yes_no":
        return (kind,)
    asks_color = mentioned(question.text, COLORS) is not None
    return (kind, asks_color, is_negated(question.text), question.answer)


def _quotas(wanted: int) -> Counter[tuple[object, ...]]:
    strata: list[tuple[tuple[object, ...], float]] = []
    for kind, share in TYPE_SHARES.items():
        if kind == "yes_no":
            cells = [(c, n, a) for c in (True, False) for n in (True, False) for a in YES_NO]
            strata += [((kind, *cell), share / len(cells)) for cell in cells]
        else:
            strata.append(((kind,), share))
    quotas: Counter[tuple[object, ...]] = Counter()
    total = 0.0
    for stratum, share in strata:
        quotas[stratum] = round((total + share) * wanted) - round(total * wanted)
        total += share
    return quotas
