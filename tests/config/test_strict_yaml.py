"""Protects reading of YAML: what would be read as something else is refused with its line."""

from pathlib import Path

import pytest
import yaml

from ademvl.config.includes import read_with_lines
from ademvl.config.strict_yaml import load_with_lines, load_yaml
from ademvl.errors import SettingsError


@pytest.mark.parametrize(
    "text", ["a: &a [*a]\n", "a: 1\nr: &r {method: {name: *r}}\n", "&x {a: *x}\n", "&x [*x]\n"]
)
def test_alias_of_what_it_stands_in_is_refused(text: str) -> None:
    with pytest.raises(yaml.YAMLError, match=r"is an alias of what it stands in(?s:.)*line \d"):
        load_yaml(text)


def test_other_aliases_are_read_wherever_they_stand() -> None:
    value, lines = load_with_lines("a: &a {x: &x [1]}\nb: [*a, *x]\nc: {<<: *a}\n")
    assert value == {"a": {"x": [1]}, "b": [{"x": [1]}, [1]], "c": {"x": [1]}}
    assert lines["b", "0", "x"] == 1


@pytest.mark.parametrize(
    ("key", "read_as"),
    [
        *[("on", "true"), ("no", "false"), ("0x10", "16"), ("1", "1"), ("1.5", "1.5")],
        *[("null", "null"), ("~", "null"), ("2020-01-01", '"2020-01-01"')],
    ],
)
def test_key_that_is_no_text_is_named_as_written(key: str, read_as: str) -> None:
    text = f"runs:\n  a: {{}}\n  {key}: {{}}\n"
    with pytest.raises(yaml.YAMLError) as caught:
        load_yaml(text)
    assert f"quote the key {key}: YAML reads it as {read_as}, not as a text" in str(caught.value)
    assert "line 3, column 3" in str(caught.value)
    assert load_yaml(text.replace(f"{key}:", f"'{key}':"))["runs"] == {"a": {}, key: {}}


@pytest.mark.parametrize(
    ("written", "value"), [("010", "8"), ("1:30", "90"), ("-0_17", "-15"), ("1:30.5", "90.5")]
)
def test_number_that_is_another_one_is_refused(written: str, value: str) -> None:
    with pytest.raises(yaml.YAMLError, match=f"{written} is read as {value}; write {value}, or "):
        load_yaml(f"a: {written}\n")


def test_all_that_is_not_read_as_written_is_told_with_its_line() -> None:
    with pytest.raises(yaml.YAMLError) as caught:
        load_yaml("on: 1\na: 010\nb: {no: 1, x: 2, x: 3}\n")
    assert "4 found" in str(caught.value)
    for text in ("line 1: quote the key on", "line 2: 010 is", "line 3: quote", "line 3: key 'x'"):
        assert text in str(caught.value)


def _doubled(times: int) -> str:
    """YAML of a few lines that unfolds to 2 ** times values."""
    lines = ["a0: &a0 [1, 1]"]
    lines += [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, times)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: " + "[" * 3000, "nested more than 50 levels deep"),
        ("[" * 60 + "]" * 60, "nested more than 50 levels deep"),
        ("\n".join(" " * n + f"k{n}:" for n in range(60)), "nested more than 50 levels deep"),
        ("a: " + "9" * 5000, "cannot be read: Exceeds the limit"),
        ("a: 2020-13-45", "cannot be read: month must be in 1..12"),
        (_doubled(40), "more than 200,000 values, with what aliases stand for"),
        ("a: !!python/object:x.Y {}", "could not determine a constructor"),
    ],
)
def test_what_cannot_be_held_is_refused_at_once_with_its_line(text: str, message: str) -> None:
    with pytest.raises(yaml.YAMLError) as caught:
        load_yaml(text)
    assert message in str(caught.value)
    assert "line " in str(caught.value)


def test_what_unfolds_to_little_is_read() -> None:
    assert len(load_yaml(_doubled(8))["a7"]) == 2
    assert load_yaml("[" * 40 + "]" * 40)


def test_other_numbers_and_texts_are_read() -> None:
    text = "[0, -0, 0.5, 00.5, 1_000, 0x10, '010', '1:30', 9e-3, 1.0e+3, 2020-01-01, 09]"
    *found, date, text_of_digits = load_yaml(text)
    assert found == [0, 0, 0.5, 0.5, 1000, 16, "010", "1:30", "9e-3", 1000.0]
    assert (str(date), text_of_digits) == ("2020-01-01", "09")


def test_what_stands_in_a_file_without_keys_is_named(tmp_path: Path) -> None:
    for text, found in (("", "nothing"), ("- a\n", "a list"), ("a\n", "a str")):
        (tmp_path / "study.yaml").write_text(text, encoding="utf-8")
        with pytest.raises(SettingsError, match=f"expected keys and values, found {found}"):
            read_with_lines(tmp_path / "study.yaml", name="study.yaml")
