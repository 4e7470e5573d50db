"""Protects what stands where output goes: links are followed, pipes and devices written to."""

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ademvl.errors import DataError
from ademvl.storage.files import atomic_path, write_text
from ademvl.storage.folders import folder_built_aside


def make_link(path: Path, target: Path | str) -> Path:
    path.symlink_to(target)
    return path


@pytest.mark.parametrize("is_relative", [True, False])
@pytest.mark.parametrize("exists", [True, False])
def test_link_stays_and_the_file_it_leads_to_is_replaced(
    tmp_path: Path, is_relative: bool, exists: bool
) -> None:
    (tmp_path / "far").mkdir()
    target = tmp_path / "far" / "target.json"
    if exists:
        target.write_text("old")
    first = make_link(tmp_path / "first", "far/target.json" if is_relative else target)
    second = make_link(tmp_path / "second", first)
    write_text(second, "new")
    assert target.read_text() == first.read_text() == "new"
    assert first.is_symlink()
    assert second.is_symlink()
    assert [path.name for path in target.parent.iterdir()] == ["target.json"]


def test_file_that_a_link_leads_to_stays_when_writing_fails(tmp_path: Path) -> None:
    target = tmp_path / "target.json"
    target.write_text("old")
    link = make_link(tmp_path / "link", target)
    with pytest.raises(ZeroDivisionError), atomic_path(link) as temporary:
        temporary.write_text(str(1 / 0))
    assert target.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "target.json"]


def test_pipe_gets_the_whole_file_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    link = make_link(tmp_path / "link", pipe)
    text = "a line of output\n" * 20_000  # more than a pipe holds
    for path in (pipe, link):
        with ThreadPoolExecutor(1) as pool:
            read = pool.submit(pipe.read_text)
            write_text(path, text)
            assert read.result() == text
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "pipe"]


def test_pipe_gets_nothing_when_writing_fails(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ZeroDivisionError), atomic_path(pipe) as temporary:
        temporary.write_text(str(1 / 0))
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert os.read(reader, 10) == b""
    os.close(reader)


PRINTING = """
from pathlib import Path
from ademvl.storage.files import write_text
print("before")
write_text(Path({path!r}), "written\\n")
print("after")
"""


@pytest.mark.parametrize("is_named", [False, True])
@pytest.mark.parametrize("to_file", [False, True])
def test_standard_output_keeps_all_that_is_printed(
    tmp_path: Path, is_named: bool, to_file: bool
) -> None:
    printed = tmp_path / "printed"
    path = printed if is_named and to_file else Path("/dev/stdout")
    command = [sys.executable, "-c", PRINTING.format(path=str(path))]
    if to_file:
        with printed.open("w") as stream:
            subprocess.run(command, check=True, stdout=stream)
    else:
        printed.write_bytes(subprocess.run(command, check=True, capture_output=True).stdout)
    assert printed.read_text() == "before\nwritten\nafter\n"
    assert not printed.is_symlink()


def test_folder_and_links_that_lead_nowhere_are_refused_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    make_link(tmp_path / "to_folder", folder)
    make_link(tmp_path / "dangling", tmp_path / "unmounted" / "scores.json")
    make_link(tmp_path / "one", tmp_path / "other")
    make_link(tmp_path / "other", tmp_path / "one")
    make_link(tmp_path / "self", "self")
    for name, what in (
        ("folder", "is a folder"),
        ("to_folder", "is a folder"),
        ("dangling", "is a link to .*scores.json, whose folder does not exist"),
        ("one", "in a circle"),
        ("self", "in a circle"),
    ):
        with pytest.raises(DataError, match=f"{name}: .*{what}"):
            write_text(tmp_path / name, "new")
    assert not (tmp_path / "unmounted").exists()
    assert not list(folder.iterdir())


def test_replaced_file_keeps_its_mode_and_a_new_one_has_the_usual(tmp_path: Path) -> None:
    private = tmp_path / "private.json"
    private.write_text("old")
    private.chmod(0o600)
    write_text(private, "new")
    write_text(tmp_path / "new.json", "new")
    (tmp_path / "usual").touch()
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    modes = {(tmp_path / name).stat().st_mode for name in ("new.json", "usual")}
    assert len(modes) == 1


def test_longest_possible_name_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    write_text(path, "new")
    assert path.read_text() == "new"


def test_missing_right_names_the_file_and_not_a_temporary_one(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 256)
    with pytest.raises(OSError, match="too long") as caught:
        write_text(path, "new")
    assert path in (Path(caught.value.filename), Path(caught.value.filename2 or "."))


def test_folder_behind_a_link_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link = make_link(tmp_path / "maps", tmp_path / "disk" / "maps")
    for content in ("first", "second"):
        with folder_built_aside(link, entries=["list.json"]) as folder:
            (folder / "list.json").write_text(content)
        assert link.is_symlink()
        assert (tmp_path / "disk" / "maps" / "list.json").read_text() == content
        assert [path.name for path in (tmp_path / "disk").iterdir()] == ["maps"]
