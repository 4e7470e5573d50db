"""What can be asked about scenes: every possible question of each kind, before it is worded."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from typing import Literal

from ademvl.data.scene_captions import (
    ATTRIBUTES,
    Attribute,
    count_by,
    name_counted,
    number_word,
    tell_counts,
    tell_number,
    tell_objects,
    tell_pair,
    tell_places,
)
from ademvl.data.scenes import COLORS, NUM_OBJECTS, SHAPES, STEPS, Relation, Scene, SceneObject

QuestionKind = Literal["shown", "presence", "number", "name", "place", "beside", "comparison"]
YES_NO = ("yes", "no")
NEVER_RIGHT = ("maybe", "unclear")
"""Further options of yes/no questions, which no picture makes right."""

_SOME = tuple(map(number_word, (1, 2, 3)))
_ALL = tuple(map(number_word, NUM_OBJECTS))
"""Answers to how many there are of a colour or shape, and how many objects at all."""
ANSWER_WORDS = (*COLORS, *SHAPES, *_ALL, *_SOME[:1], *YES_NO, *NEVER_RIGHT)
"""All options, each once."""
_ATTRIBUTES: Mapping[Attribute, tuple[str, ...]] = {"color": COLORS, "shape": SHAPES}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question before it is worded.

    Attributes:
        form: what it is balanced in: its answers are equally frequent.
        wording: key of `WORDINGS`.
        blanks: what is filled in.
        answer: the right option.
        answers: all that can be right in its form.
        tempting: wrong options that the picture suggests, offered before others.
        also_right: options that are right too and not offered.
        tell: draws a caption that answers it.
    """

    form: str
    wording: str
    blanks: Mapping[str, str]
    answer: str
    answers: tuple[str, ...]
    tempting: tuple[str, ...] = ()
    also_right: tuple[str, ...] = ()
    tell: Callable[[random.Random], str]


def _shown(scene: Scene) -> Iterator[Asked]:
    """Ask which of several colours or shapes is there at all."""
    for attribute, words in _ATTRIBUTES.items():
        there = {getattr(item, attribute) for item in scene.objects}
        if there == set(words):
            continue
        for answer in sorted(there):
            yield Asked(
                form=f"{attribute} shown",
                wording=f"{attribute} shown",
                blanks={},
                answer=answer,
                answers=words,
                also_right=tuple(there - {answer}),
                tell=partial(tell_objects, scene.objects),
            )


def _presence(scene: Scene) -> Iterator[Asked]:
    """Ask for one property, or for two together of which the picture shows both, or just one."""
    colors, shapes, names = (
        {getattr(item, part) for item in scene.objects} for part in ("color", "shape", "name")
    )

    def ask(form: str, what: str, *, is_there: bool) -> Asked:
        return _yes_no(
            is_there,
            form=f"presence of {form}",
            wording="presence",
            blanks={"what": what},
            tell=partial(tell_objects, scene.objects),
        )

    for color in COLORS:
        yield ask("one property", f"{color} object", is_there=color in colors)
        for shape in SHAPES:
            is_there, num_shown = f"{color} {shape}" in names, (color in colors) + (shape in shapes)
            if num_shown == 2:
                yield ask("two shown properties", f"{color} {shape}", is_there=is_there)
            if num_shown == 1 or is_there:
                yield ask("two properties", f"{color} {shape}", is_there=is_there)
    for shape in SHAPES:
        yield ask("one property", shape, is_there=shape in shapes)


def _number(scene: Scene) -> Iterator[Asked]:
    """Ask how many objects there are, or how many of a shape or a colour."""
    for attribute in _ATTRIBUTES:
        for name, number in count_by(scene, attribute).items():
            if number_word(number) in _SOME:
                yield Asked(
                    form=f"number by {attribute}",
                    wording="number",
                    blanks={"what": name_counted(name, attribute)},
                    answer=number_word(number),
                    answers=_SOME,
                    tell=partial(tell_counts, scene, attribute),
                )
    yield Asked(
        form="number of all",
        wording="number",
        blanks={"what": "objects"},
        answer=number_word(len(scene.objects)),
        answers=_ALL,
        tell=lambda generator: tell_number(scene),
    )


def _tell_two_places(
    item: SceneObject, others: Sequence[SceneObject], generator: random.Random
) -> str:
    return tell_places([item, generator.choice(others)], generator)


def _tell_beside(
    other: SceneObject, relation: Relation, item: SceneObject, _: random.Random
) -> str:
    return tell_pair(other, relation, item)


def _name(scene: Scene) -> Iterator[Asked]:
    """Ask for the colour of the only object of a shape, or the other way round."""
    for item in scene.objects:
        for asked, known in (ATTRIBUTES, ATTRIBUTES[::-1]):
            value = getattr(item, known)
            if count_by(scene, known)[value] > 1:
                continue
            yield from _attributes(
                scene,
                item,
                name_counted(value, known, number=1),
                form=f"by {known}",
                tell=partial(tell_objects, scene.objects),
                attributes=(asked,),
            )


def _place(scene: Scene) -> Iterator[Asked]:
    """Ask for the colour or shape of the object in a place."""
    for item in scene.objects:
        others = [other for other in scene.objects if other is not item]
        yield from _attributes(
            scene,
            item,
            f"object in the {item.place}",
            form="place",
            tell=partial(_tell_two_places, item, others),
        )


def _beside(scene: Scene) -> Iterator[Asked]:
    """Ask for the colour or shape of the object next to one that its name tells apart."""
    for item in scene.objects:
        if not _is_unique(item, scene):
            continue
        for relation in STEPS:
            other = scene.beside(item, relation)
            if other is not None:
                what = f"object {relation} the {item.name}"
                yield from _attributes(
                    scene,
                    other,
                    what,
                    form="beside",
                    tell=partial(_tell_beside, other, relation, item),
                )


def _comparison(scene: Scene) -> Iterator[Asked]:
    """Ask whether there is more of one than of another, or whether one is larger."""
    for attribute in _ATTRIBUTES:
        counts = count_by(scene, attribute)
        for first, second in permutations(counts, 2):
            if counts[first] == counts[second]:
                continue
            for wording in ("more", "fewer"):
                yield _yes_no(
                    (counts[first] > counts[second]) == (wording == "more"),
                    form=f"{wording} by {attribute}",
                    wording=wording,
                    blanks={
                        "what": name_counted(first, attribute),
                        "other": name_counted(second, attribute),
                    },
                    tell=partial(tell_counts, scene, attribute),
                )
    for item, other in permutations(scene.objects, 2):
        if item.size != other.size and _is_unique(item, scene) and _is_unique(other, scene):
            yield _yes_no(
                item.size == "large",
                form="larger",
                wording="larger",
                blanks={"what": item.name, "other": other.name},
                tell=partial(tell_objects, [item, other]),
            )


def _attributes(
    scene: Scene,
    item: SceneObject,
    what: str,
    *,
    form: str,
    tell: Callable[[random.Random], str],
    attributes: Sequence[Attribute] = ATTRIBUTES,
) -> Iterator[Asked]:
    for attribute in attributes:
        words = _ATTRIBUTES[attribute]
        answer = getattr(item, attribute)
        yield Asked(
            form=f"{attribute} {form}",
            wording=attribute,
            blanks={"what": what},
            answer=answer,
            answers=words,
            tell=tell,
        )


def _yes_no(
    is_true: bool,
    *,
    form: str,
    wording: str,
    blanks: Mapping[str, str],
    tell: Callable[[random.Random], str],
) -> Asked:
    answer, other = YES_NO if is_true else YES_NO[::-1]
    return Asked(
        form=form,
        wording=wording,
        blanks=blanks,
        answer=answer,
        answers=YES_NO,
        tempting=(other,),
        tell=tell,
    )


def _is_unique(item: SceneObject, scene: Scene) -> bool:
    return [other.name for other in scene.objects].count(item.name) == 1


POSSIBLE: Mapping[QuestionKind, Callable[[Scene], Iterator[Asked]]] = {
    "shown": _shown,
    "presence": _presence,
    "number": _number,
    "name": _name,
    "place": _place,
    "beside": _beside,
    "comparison": _comparison,
}
"""Yields what of a kind can be asked about a scene."""
