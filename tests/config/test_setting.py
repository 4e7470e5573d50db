"""Protects how settings are declared: marks that cannot be forgotten, strict and plain values."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest

from ademvl.config.key_lines import KeyLines
from ademvl.config.plain import all_plain, to_plain
from ademvl.config.setting import group, record_class, relation, setting, settings_class
from ademvl.config.strict_yaml import load_with_lines
from ademvl.errors import SettingsError


@settings_class
class Numbers:
    """Numbers.

    Attributes:
        whole: one.
        parts: some.
        sizes: by name.
        late: came later.
    """

    whole: int = setting(changes="results", default=1, ge=1)
    parts: tuple[float, ...] = setting(changes="results", default=(), ge=0, lt=1)
    sizes: Mapping[str, int] = setting(changes="results", default_factory=dict, ge=0)
    late: bool = setting(changes="training", default=False, omitted_at_default=True)


def test_field_that_does_not_say_what_it_changes_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Silent\.width: does not say what it changes"):

        @settings_class
        class Silent:
            """Says nothing."""

            width: int = 3


@pytest.mark.parametrize(
    "hint",
    [
        *(list[int], dict[str, int], tuple[int, int], tuple[int, str], Mapping[int, int], Path),
        *(int | str, float | Literal["auto"], Literal[1, 2], bytes, complex, Any, object, tuple),
        *(set[str], list[str] | None, tuple[Path, ...], Mapping[str, list[int]]),
    ],
    ids=str,
)
def test_types_that_are_not_checked_are_refused_when_the_class_is_made(hint: Any) -> None:
    with pytest.raises(TypeError, match=r"Loose\.width: type .* is not checked"):

        @settings_class
        class Loose:
            """Loose."""

            width: hint = setting(changes="results")


def test_bounds_of_what_is_no_number_are_refused() -> None:
    with pytest.raises(TypeError, match=r"Loose\.name: str is no number, which ge could be of"):

        @settings_class
        class Loose:
            """Loose."""

            name: str = setting(changes="results", ge=0)


def test_bound_of_another_name_is_refused() -> None:
    with pytest.raises(TypeError, match="no argument 'minimum'; bounds are gt, ge, lt, le"):
        setting(changes="results", minimum=0)


def test_relation_of_no_field_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Loose\._fits: relation of 'widht', which is no field"):

        @settings_class
        class Loose:
            """Loose."""

            width: int = setting(changes="results")

            @relation("widht")
            def _fits(self) -> Iterator[str]:
                yield "never"


@settings_class
class Optional:
    """What may be none."""

    width: int | None = setting(changes="results", default=None, ge=0)
    rate: float | None = setting(changes="results", default=None, gt=0)
    parts: tuple[float | None, ...] = setting(changes="results", default=(), lt=1)
    kinds: tuple[Literal["small", "large"], ...] = setting(changes="results", default=())
    kind: Literal["small", "large"] | None = setting(changes="results", default=None)


def test_what_may_be_none_is_checked_as_strictly() -> None:
    found = Optional(width="3", rate="9e-3", parts=["0.5", None], kind=None)  # type: ignore[arg-type]
    assert (found.width, found.rate, found.parts) == (3, 0.009, (0.5, None))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"width": -3}, "- width: -3, expected >= 0"),
        ({"width": 2.0}, "- width: 2.0, expected integer"),
        ({"rate": 0}, "- rate: 0, expected > 0"),
        ({"parts": [None, 1]}, "- parts.1: 1, expected < 1"),
        ({"kinds": ["small", "larg"]}, "- kinds.1: 'larg' is not allowed (allowed: small, large)"),
        ({"kind": "larg"}, "- kind: 'larg' is not allowed (allowed: small, large); did you mean"),
    ],
)
def test_what_may_be_none_is_named_as_it_is_written(values: Any, expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Optional(**values)
    assert "(1 found)" in str(caught.value)
    assert expected in str(caught.value)


def test_group_that_is_none_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Silent\.width: does not say what it changes"):

        @settings_class
        class Silent:
            """Says nothing."""

            width: int = group(default_factory=int)


def test_records_of_data_files_say_nothing_but_are_as_strict() -> None:
    @record_class
    class Record:
        """A record."""

        width: int

    assert Record(width="3").width == 3
    with pytest.raises(SettingsError, match=r"width: 3\.0, expected integer"):
        Record(width=3.0)
    with pytest.raises(SettingsError, match="missing width"):
        Record()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"whole": 0}, "whole: 0, expected >= 1"),
        ({"parts": [0.5, 1]}, "parts.1: 1, expected >= 0 and < 1"),
        ({"sizes": {"train": -1}}, "sizes.train: -1, expected >= 0"),
        ({"late": "perhaps"}, "late: 'perhaps', expected boolean"),
    ],
)
def test_ranges_hold_for_the_numbers_inside_lists_and_mappings(
    values: dict[str, Any], expected: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        Numbers(**values)
    assert expected in str(caught.value)


def test_text_is_read_as_what_is_expected() -> None:
    found = Numbers(whole="7", parts=["9e-3", 0], sizes={"train": "3"}, late="True")  # type: ignore[arg-type]
    assert (found.whole, found.parts, found.sizes) == (7, (0.009, 0.0), {"train": 3})
    assert found.late is True
    assert all(type(part) is float for part in found.parts)


@pytest.mark.parametrize("text", ["1_0", "\u0663", "0x10", "1e3", ""])
def test_text_that_nobody_means_as_a_number_is_none(text: str) -> None:
    with pytest.raises(SettingsError, match=r"whole: .*, expected integer"):
        Numbers(whole=text)  # type: ignore[arg-type]


def test_setting_that_came_later_is_written_where_it_is_used_only() -> None:
    assert to_plain(Numbers()) == {"whole": 1, "parts": [], "sizes": {}}
    assert to_plain(Numbers(late=True))["late"] is True
    assert all_plain(Numbers())["late"] is False


def test_lines_are_those_of_keys_and_entries_of_lists() -> None:
    text = "a:\n  b: 1\n  c:\n    - x\n    - {d: 2}\ne: &e {f: 3}\ng:\n  <<: *e\n  h: 4\n"
    value, lines = load_with_lines(text)
    assert value["g"] == {"f": 3, "h": 4}
    expected = {("a", "b"): 2, ("a", "c"): 3, ("a", "c", "1"): 5, ("a", "c", "1", "d"): 5}
    assert expected.items() <= lines.items()
    assert (lines["g", "h"], lines["g", "f"]) == (9, 6)


def test_place_of_a_key_is_where_it_is_inherited_from() -> None:
    lines = {("defaults", "a"): "f:2", ("runs", "x"): "f:5", ("runs", "y", "a"): "f:7"}
    bases = {("runs", "x"): (("runs", "y"), ("defaults",)), ("runs", "y"): (("defaults",),)}
    key_lines = KeyLines(lines, bases)
    assert key_lines.find(("runs", "y", "a")) == "f:7"
    assert key_lines.find(("runs", "x", "a", "0")) == "f:7"
    assert key_lines.find(("runs", "x", "b")) == "f:5"
    assert key_lines.mark("runs.x.a: wrong") == "f:7: runs.x.a: wrong"
    assert key_lines.mark("other: wrong") == "other: wrong"


def test_empty_file_has_no_lines(tmp_path: Path) -> None:
    assert load_with_lines("") == (None, {})
