"""Captions of scenes: noun phrases that read after "a picture of" and hold for the picture.

Each names a part of what is there: objects with their places, objects with their sizes, one object
beside another, or numbers of objects.
"""

import random
from collections import Counter
from collections.abc import Sequence
from typing import Literal, get_args

from ademvl.data.scenes import (
    COLORS,
    NUM_OBJECTS,
    PLACES,
    SHAPES,
    SIZES,
    STEPS,
    Relation,
    Scene,
    SceneObject,
)

Attribute = Literal["color", "shape"]
ATTRIBUTES: tuple[Attribute, ...] = get_args(Attribute)
REFERENCES_PER_IMAGE = 5
_NUMBERS = ("one", "two", "three", "four", "five")
_FORMS = ("places", "objects", "beside", "by color", "by shape", "number")


def number_word(number: int) -> str:
    """Return the word for a number of 1 to 5."""
    return _NUMBERS[number - 1]


def plural(shape: str) -> str:
    """Return the plural of a shape's name."""
    return f"{shape}es" if shape == "cross" else f"{shape}s"


def name_counted(name: str, attribute: Attribute, *, number: int = 2) -> str:
    """Return "circles" or "red objects", or the singular for one."""
    if attribute == "color":
        return f"{name} object{'s' if number > 1 else ''}"
    return plural(name) if number > 1 else name


def count_by(scene: Scene, attribute: Attribute) -> Counter[str]:
    """Count objects by colour or shape."""
    return Counter(getattr(item, attribute) for item in scene.objects)


def tell_places(items: Sequence[SceneObject], generator: random.Random) -> str:
    """Tell objects in random order, with the place of each."""
    order = generator.sample(items, len(items))
    return " and ".join(f"the {item.place} {item.name}" for item in order)


def tell_objects(items: Sequence[SceneObject], generator: random.Random) -> str:
    """Tell objects in random order, with their sizes."""
    return " and ".join(map(_describe, generator.sample(items, len(items))))


def tell_pair(other: SceneObject, relation: Relation, item: SceneObject) -> str:
    """Tell that one object is beside another."""
    return f"a {other.name} {relation} a {item.name}"


def tell_counts(scene: Scene, attribute: Attribute, generator: random.Random) -> str:
    """Tell how many objects there are of each colour or shape."""
    parts = [
        f"{number_word(number)} {name_counted(name, attribute, number=number)}"
        for name, number in count_by(scene, attribute).items()
    ]
    return " and ".join(generator.sample(parts, len(parts)))


def tell_number(scene: Scene) -> str:
    """Tell how many objects there are."""
    return f"{number_word(len(scene.objects))} objects on a light background"


def draw_caption(scene: Scene, generator: random.Random) -> str:
    """Draw one caption of a scene, short enough for the tokens of an answer."""
    pairs = [
        (other, relation, item)
        for item in scene.objects
        for relation in STEPS
        if (other := scene.beside(item, relation))
    ]
    form = generator.choice(_FORMS)
    if form == "beside" and pairs:
        return tell_pair(*generator.choice(pairs))
    if form in ("by color", "by shape"):
        return tell_counts(scene, "color" if form == "by color" else "shape", generator)
    if form == "number":
        return tell_number(scene)
    if form == "objects":
        num_told = min(generator.randint(2, 3), len(scene.objects))
        return tell_objects(generator.sample(scene.objects, num_told), generator)
    return tell_places(generator.sample(scene.objects, generator.randint(1, 2)), generator)


def draw_references(scene: Scene, generator: random.Random) -> tuple[str, ...]:
    """Draw different captions of a scene, `REFERENCES_PER_IMAGE` of them."""
    found: dict[str, None] = {}
    while len(found) < REFERENCES_PER_IMAGE:
        found[draw_caption(scene, generator)] = None
    return tuple(found)


def caption_words() -> tuple[str, ...]:
    """Return all words that captions may have, sorted."""
    names = " ".join((*COLORS, *SHAPES, *map(plural, SHAPES), *SIZES, *PLACES.values(), *STEPS))
    numbers = " ".join(_NUMBERS[: NUM_OBJECTS[-1]])
    others = "a and background in light object objects of on picture the"
    return tuple(sorted(set(f"{names} {numbers} {others}".split())))


def _describe(item: SceneObject) -> str:
    return f"a {item.size} {item.name}"
