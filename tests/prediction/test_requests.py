"""Protects what `ademvl predict` accepts: everything wrong is listed at once, before any work."""

import json
import os
import tomllib

import pytest
from PIL import Image

from ademvl.cli import main
from ademvl.data.easy_vqa import COLORS, SHAPES, measure_class
from ademvl.errors import DataError
from ademvl.prediction.requests import Request, check_request_images, read_requests
from ademvl.prediction.sample_images import FOLDER, SAMPLES, draw
from tests.conftest import PROJECT_ROOT


def _write(tmp_path, *lines):
    path = tmp_path / "requests.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def test_lines_become_requests_in_order(tmp_path):
    path = _write(
        tmp_path,
        {"image": "a.png", "question": "Which?", "choices": ["x", "y"], "hint": "Look."},
        "",
        {"id": 7, "image": "sub/b.png", "caption": True},
        {"id": "text", "question": "Why?"},
        {"image": "sample:red_circle.png", "caption": True},
    )
    assert read_requests(path) == [
        Request(
            request_id="1",
            image=tmp_path / "a.png",
            question="Which?",
            choices=("x", "y"),
            hint="Look.",
        ),
        Request(request_id="7", image=tmp_path / "sub" / "b.png"),
        Request(request_id="text", image=None, question="Why?"),
        Request(request_id="5", image=FOLDER / "red_circle.png"),
    ]


@pytest.mark.parametrize(
    ("line", "finding"),
    [
        ("{", "line 1: not valid JSON"),
        ("[" * 3000, "line 1: JSON nested too deeply"),
        ('{"id": ' + "[" * 150 + "]" * 150 + "}", "line 1: JSON nested more than 100 levels deep"),
        ('{"id": ' + "9" * 5000 + "}", "line 1: not readable as JSON"),
        ('{"question": "a", "question": "b"}', "line 1: key 'question' occurs twice"),
        (r'{"question": "a \ud800 b"}', "holds half of a character"),
        (r'{"question": "q", "image": "a\u0000b"}', "image holds a null character"),
        ({"question": "a\0b"}, "question holds a null character"),
        ({"question": "?", "choices": ["a", "b\0"]}, "a choice holds a null character"),
        ("[1]", "line 1: is a list, expected an object"),
        ({"question": "?", "imge": "a"}, "unknown key 'imge'; did you mean image?"),
        ({"question": 3}, "question is 3, expected text"),
        ({"question": "?", "image": 3}, "image is 3, expected text"),
        ({"image": "a.png"}, "no question, and no caption asked for"),
        ({"image": "a.png", "question": " "}, "no question, and no caption asked for"),
        ({"image": "a.png", "question": "?", "caption": True}, "both a question and a caption"),
        ({"caption": True}, "a caption needs an image"),
        ({"caption": 1, "image": "a.png"}, "caption is 1, expected true or false"),
        ({"image": "a.png", "caption": True, "choices": ["a", "b"]}, "choices without a question"),
        ({"question": "?", "choices": ["a"]}, "1 choices, expected 2 to 26"),
        ({"question": "?", "choices": ["a", ""]}, "expected a list of texts"),
        ({"question": "?", "choices": "ab"}, "expected a list of texts"),
        ({"question": "?", "id": True}, "id is True, expected text or a number"),
        ('{"question": "Is it red? \\ud83d", "choices": ["a", "b"]}', "question holds half of a"),
        ('{"question": "?", "choices": ["a", "b\\udc00"]}', "a choice holds half of a character"),
        ('{"question": "?", "hint": "\\ud83d!"}', "hint holds half of a character"),
        ('{"question": "?", "id": "\\ud83d"}', "id holds half of a character"),
        ('{"question": "?", "image": "\\ud83d.png"}', "image holds half of a character"),
        ({"question": "?", "image": "https://example.org/a.png"}, "only files are read: download"),
        ({"question": "?", "image": "file:///tmp/a.png"}, "is an address; only files are read"),
        ({"caption": True, "image": "s3://bucket/a.png"}, "is an address; only files are read"),
        ({"caption": True, "image": "data:image/png;base64,iVBORw0KGgo="}, "is an address"),
        ({"question": "?", "image": "sample:red_circl.png"}, "did you mean sample:red_circle.png?"),
        (
            {"question": "?", "image": "sample:"},
            "no sample ''; there are black_rectangle.png, blue_",
        ),
        ({"question": "?", "image": "sample:../requests.py"}, "no sample '../requests.py'; there "),
    ],
)
def test_malformed_line_is_named(tmp_path, line, finding):
    with pytest.raises(DataError) as caught:
        read_requests(_write(tmp_path, line))
    assert finding in str(caught.value)
    assert "line 1" in str(caught.value)
    str(caught.value).encode("utf-8")


def test_all_malformed_lines_are_listed(tmp_path):
    path = _write(tmp_path, "{", {"question": "?"}, {"id": 2, "question": "?"}, {"caption": True})
    with pytest.raises(DataError) as caught:
        read_requests(path)
    message = str(caught.value)
    assert "3 found" in message
    for finding in ("line 1: not valid", "line 3: id '2' is that of line 2", "line 4: a caption"):
        assert finding in message


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_file_without_requests_is_refused(tmp_path, content):
    path = tmp_path / "requests.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match="no request in it"):
        read_requests(path)


def test_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match=r"missing\.jsonl: cannot be read"):
        read_requests(tmp_path / "missing.jsonl")
    path = tmp_path / "latin1.jsonl"
    path.write_bytes(b'{"question": "caf\xe9"}\n')
    with pytest.raises(DataError, match="not UTF-8 text at byte 17"):
        read_requests(path)


def test_images_that_are_missing_or_broken_are_listed(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "good.png")
    (tmp_path / "empty.png").touch()
    (tmp_path / "broken.png").write_bytes((tmp_path / "good.png").read_bytes()[:40])
    (tmp_path / "text.png").write_text("not an image")

    def requests(*names):
        return [Request(request_id=name, image=tmp_path / f"{name}.png") for name in names]

    check_request_images([*requests("good"), Request(request_id="t", image=None, question="?")])
    with pytest.raises(DataError) as caught:
        check_request_images(requests("good", "absent", "empty"))
    assert "absent.png: image of request absent is missing" in str(caught.value)
    assert "empty.png: image of request empty is an empty file" in str(caught.value)
    with pytest.raises(DataError) as caught:
        check_request_images(requests("good", "broken", "text"))
    for name in ("broken", "text"):
        assert f"request {name}: {tmp_path / name}.png: does not decode" in str(caught.value)


@pytest.mark.parametrize("name", ["http:/one/slash.png", "C:drive.png"])
def test_names_that_only_look_like_addresses_are_files(tmp_path, name):
    (request,) = read_requests(_write(tmp_path, {"image": name, "caption": True}))
    assert request.image == tmp_path / name


def test_an_address_is_told_on_the_command_line_too(tmp_path, capsys):
    address = "https://example.org/photo.jpg"
    assert main(["predict", str(tmp_path), "--image", address, "--caption"]) == 2
    assert f"image {address!r} is an address; only files are read" in capsys.readouterr().err


def test_nothing_is_waited_for_where_no_file_is(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "device.png").symlink_to("/dev/zero")
    (tmp_path / "linked.png").symlink_to(tmp_path / "pipe.png")
    names = ("pipe", "folder", "device", "linked")
    requests = [Request(request_id=name, image=tmp_path / f"{name}.png") for name in names]
    with pytest.raises(DataError) as caught:
        check_request_images(requests)
    for name in names:
        finding = f"image of request {name} cannot be read (a folder, pipe or device, expected"
        assert finding in str(caught.value)


def _photo(path, orientation):
    image = Image.new("RGB", (8, 4), "red")
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)


VIEWS = {
    "turned.jpg": (lambda path: _photo(path, 6), "its EXIF orientation (6) is not applied"),
    "upright.jpg": (lambda path: _photo(path, 1), None),
    "nonsense.jpg": (lambda path: _photo(path, 99), None),
    "clear.png": (lambda path: Image.new("RGBA", (4, 4), (9, 9, 9, 0)).save(path), "transparency"),
    "opaque.png": (lambda path: Image.new("RGBA", (4, 4), (9, 9, 9, 255)).save(path), None),
    "palette.gif": (
        lambda path: Image.new("P", (4, 4)).save(path, transparency=0),
        "hidden colours",
    ),
    "grey.png": (lambda path: Image.new("LA", (4, 4), (9, 128)).save(path), "transparency"),
    "plain.png": (lambda path: Image.new("RGB", (4, 4)).save(path), None),
}


@pytest.mark.parametrize("name", VIEWS)
def test_images_that_a_viewer_shows_otherwise_are_warned_of(tmp_path, caplog, name):
    write, warning = VIEWS[name]
    write(tmp_path / name)
    check_request_images([Request(request_id="1", image=tmp_path / name)] * 2)
    if warning is None:
        assert caplog.text == ""
    else:
        assert warning in caplog.text
        assert caplog.text.count(name) == 1


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.file_name)
def test_sample_image_shows_what_its_name_says(sample):
    path = FOLDER / sample.file_name
    assert measure_class(path) == (sample.color, sample.shape)
    with Image.open(path) as shipped:
        assert shipped.size == draw(sample).size == (64, 64)


def test_samples_have_every_color_and_shape():
    assert {sample.color for sample in SAMPLES} == set(COLORS)
    assert {sample.shape for sample in SAMPLES} == set(SHAPES)
    assert {path.name for path in FOLDER.iterdir()} == {sample.file_name for sample in SAMPLES}


def test_samples_are_installed_with_the_package():
    declared = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = declared["tool"]["setuptools"]["package-data"]["ademvl"]
    found = {path for pattern in patterns for path in FOLDER.parents[1].glob(pattern)}
    assert {FOLDER / sample.file_name for sample in SAMPLES} <= found
