"""Protects the Hugging Face export of ScienceQA: read in its variants, else refused in words."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ademvl.errors import DataError
from ademvl.tasks.scienceqa.reader import SPLITS, check_images, load_scienceqa
from tests.tasks import copies
from tests.tasks.copies import lay_out


def write_export(folder: Path, problems: dict) -> None:
    """Write parquet files as the Hugging Face export has them: without ids, images as bytes."""
    pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    import pyarrow
    import pyarrow.parquet

    folder.mkdir(parents=True)
    for split, name in (("train", "train"), ("val", "validation"), ("test", "test")):
        rows = []
        for key, row in problems.items():
            if row["split"] == split:
                content = None
                if row["image"]:
                    path = copies.write_image(folder.parent / "image.png", int(key))
                    content = {"bytes": path.read_bytes(), "path": None}
                kept = {field: value for field, value in row.items() if field != "split"}
                rows.append({**kept, "image": content})
        table = pyarrow.Table.from_pylist(rows)
        pyarrow.parquet.write_table(table, folder / f"{name}-00000-of-00001-1028f23e.parquet")


def test_export_gets_ids_by_split_and_place(tmp_path):
    write_export(tmp_path / "copy/data", copies.scienceqa_problems())
    root = lay_out(tmp_path / "shared", source="scienceqa", existing=str(tmp_path / "copy"))
    dataset = load_scienceqa(root)
    assert dataset.splits["val"] == ("val_0", "val_1")
    assert dataset.problems["train_1"].question == "Which is 1?"
    check_images(dataset, SPLITS)
    manifest = copies.read_json(root.parent / "manifest.json")
    assert manifest["source"]["ids"] == "split and row"


def test_export_gets_official_ids_from_the_problems_beside_it(tmp_path):
    problems = copies.scienceqa_problems()
    write_export(tmp_path / "copy/data", problems)
    shuffled = dict(sorted(problems.items(), reverse=True))
    copies.write_json(tmp_path / "copy/problems.json", shuffled)
    root = lay_out(tmp_path / "shared", source="scienceqa", existing=str(tmp_path / "copy"))
    dataset = load_scienceqa(root)
    assert {key: problem.question for key, problem in dataset.problems.items()} == {
        key: row["question"] for key, row in problems.items()
    }
    check_images(dataset, SPLITS)


def test_export_that_differs_from_the_problems_beside_it_is_refused(tmp_path):
    problems = copies.scienceqa_problems()
    write_export(tmp_path / "copy/data", problems)
    problems["12"]["question"] = "Another?"
    copies.write_json(tmp_path / "copy/problems.json", problems)
    with pytest.raises(DataError, match=r"train row 2: 'Which is 2\?'"):
        lay_out(tmp_path / "shared", source="scienceqa", existing=str(tmp_path / "copy"))


def test_damaged_export_is_named(tmp_path):
    write_export(tmp_path / "copy/data", copies.scienceqa_problems())
    (path,) = (tmp_path / "copy/data").glob("test-*.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"test-.*parquet: not a readable parquet file"):
        lay_out(tmp_path / "shared", source="scienceqa", existing=str(tmp_path / "copy"))


def _parquet_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.parquet"))


def _rename(folder: Path, name: str) -> None:
    """Name the files of an export otherwise: `name` gets the split."""
    for path in _parquet_files(folder):
        target = folder / name.format(split=path.name.partition("-")[0])
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)


@pytest.mark.parametrize(
    "name",
    [
        "{split}-00000-of-00001.parquet",
        "data/{split}-00000-of-00001-1028f23e.parquet",
        "default/{split}/0000.parquet",
        "{split}/0000.parquet",
        "ScienceQA/data/{split}-00000-of-00001.parquet",
        "ScienceQA/default/{split}/0000.parquet",
        "ScienceQA/{split}-00000-of-00001.parquet",
    ],
)
@pytest.mark.parametrize("is_official", [False, True])
def test_export_is_found_in_every_layout(tmp_path, name, is_official):
    copy = tmp_path / "copy"
    problems = copies.scienceqa_problems()
    write_export(copy / "written", problems)
    _rename(copy, name)
    if is_official:
        beside = copy / "ScienceQA" if name.startswith("ScienceQA") else copy
        copies.write_json(beside / "problems.json", problems)
    root = lay_out(tmp_path / "shared", source="scienceqa", existing=str(copy))
    dataset = load_scienceqa(root)
    assert len(dataset.problems) == len(problems)
    assert (set(dataset.problems) == set(problems)) == is_official
    check_images(dataset, SPLITS)


def test_one_of_several_exports_is_to_be_named(tmp_path):
    for name in ("one", "two"):
        write_export(tmp_path / "copy" / name, copies.scienceqa_problems())
    with pytest.raises(DataError, match="holds several folders of parquet files"):
        lay_out(tmp_path / "shared", source="scienceqa", existing=str(tmp_path / "copy"))


def _change_tables(folder: Path, change: Callable[[Any], Any]) -> None:
    import pyarrow.parquet

    for path in _parquet_files(folder):
        pyarrow.parquet.write_table(change(pyarrow.parquet.read_table(path)), path)


def _with_column(name: str, make: Callable[[list[Any]], list[Any]], kind: str) -> Any:
    """Return a change of a table: the column of another type."""
    import pyarrow

    kinds = {
        "binary": pyarrow.binary(),
        "large_binary": pyarrow.large_binary(),
        "string": pyarrow.string(),
        "integer": pyarrow.int64(),
        "float": pyarrow.float64(),
        "texts": pyarrow.list_(pyarrow.string()),
        "numbers": pyarrow.list_(pyarrow.int64()),
        "bytes": pyarrow.list_(pyarrow.uint8()),
        "null": pyarrow.null(),
        "path": pyarrow.struct([("path", pyarrow.string())]),
        "null and path": pyarrow.struct([("bytes", pyarrow.null()), ("path", pyarrow.string())]),
        "dictionary": pyarrow.dictionary(pyarrow.int32(), pyarrow.string()),
        "image": pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())]),
    }

    def change(table: Any) -> Any:
        place = table.schema.names.index(name)
        values = make(table.column(name).to_pylist())
        return table.set_column(place, name, pyarrow.array(values, kinds[kind]))

    return change


def _bytes_of(values: list[Any]) -> list[Any]:
    return [value and value["bytes"] for value in values]


READ = {
    "binary": ("image", _bytes_of, "binary"),
    "large binary": ("image", _bytes_of, "large_binary"),
    "bytes beside paths": (
        "image",
        lambda values: [value and {**value, "path": "a.png"} for value in values],
        "image",
    ),
    "empty structs": (
        "image",
        lambda values: [value or {"bytes": None, "path": None} for value in values],
        "image",
    ),
    "dictionary": ("subject", lambda values: values, "dictionary"),
}


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("is_official", [False, True])
def test_columns_of_other_writers_are_read(tmp_path, name, is_official):
    problems = copies.scienceqa_problems()
    write_export(tmp_path / "copy/data", problems)
    _change_tables(tmp_path / "copy", _with_column(*READ[name]))
    if is_official:
        copies.write_json(tmp_path / "copy/problems.json", problems)
    root = lay_out(tmp_path / "shared", source="scienceqa", existing=str(tmp_path / "copy"))
    dataset = load_scienceqa(root)
    with_image = [problem for problem in dataset.problems.values() if problem.has_image]
    assert len(with_image) == sum(bool(row["image"]) for row in problems.values()) > 0
    check_images(dataset, SPLITS)


REFUSED = {
    "lists of bytes": ("image", lambda values: [[1] for _ in values], "bytes"),
    "numbers as choices": ("choices", lambda values: [[1] for _ in values], "numbers"),
    "a text as choices": ("choices", lambda values: ["a" for _ in values], "string"),
    "a letter as answer": ("answer", lambda values: ["A" for _ in values], "string"),
    "a fraction as answer": ("answer", lambda values: [0.5 for _ in values], "float"),
    "a number as grade": ("grade", lambda values: [7 for _ in values], "integer"),
    "nothing as question": ("question", lambda values: [None for _ in values], "null"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_columns_of_other_types_are_named(tmp_path, name):
    column, make, kind = REFUSED[name]
    write_export(tmp_path / "copy/data", copies.scienceqa_problems())
    _change_tables(tmp_path / "copy", _with_column(column, make, kind))
    with pytest.raises(
        DataError, match=rf"train-.*parquet: .*\n  - column {column}: is .*expected"
    ):
        lay_out(tmp_path / "shared", source="scienceqa", existing=str(tmp_path / "copy"))


def test_columns_that_are_missing_or_twice_are_named(tmp_path):
    write_export(tmp_path / "copy/data", copies.scienceqa_problems())
    _change_tables(tmp_path / "copy", lambda table: table.drop_columns(["image", "hint"]))
    with pytest.raises(DataError, match="column hint: missing\n  - column image: missing"):
        lay_out(tmp_path / "shared", source="scienceqa", existing=str(tmp_path / "copy"))


UNEMBEDDED = {
    "no bytes": (lambda path: {"bytes": None, "path": path}, "image"),
    "empty bytes": (lambda path: {"bytes": b"", "path": path}, "image"),
    "no bytes in the whole file": (lambda path: {"bytes": None, "path": path}, "null and path"),
    "no such part": (lambda path: {"path": path}, "path"),
    "texts": (lambda path: path, "string"),
    "empty binary": (lambda path: b"", "binary"),
}


@pytest.mark.parametrize("name", UNEMBEDDED)
@pytest.mark.parametrize("is_official", [False, True])
def test_images_that_are_paths_alone_are_refused_with_their_number(tmp_path, name, is_official):
    problems = copies.scienceqa_problems()
    write_export(tmp_path / "copy/data", problems)

    strip, kind = UNEMBEDDED[name]

    def strip_all(values: list[Any]) -> list[Any]:
        return [value and strip("image.png") for value in values]

    _change_tables(tmp_path / "copy", _with_column("image", strip_all, kind))
    if is_official:
        copies.write_json(tmp_path / "copy/problems.json", problems)
    number = sum(bool(row["image"]) for row in problems.values())
    message = rf"rows with the path of an image in its place \({number} found\)"
    with pytest.raises(DataError, match=message):
        lay_out(tmp_path / "shared", source="scienceqa", existing=str(tmp_path / "copy"))
    assert not (tmp_path / "shared/data/set").exists()
