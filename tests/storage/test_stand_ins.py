"""Protects that web pages, Git LFS pointers and texts are called so, whoever reads them."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from ademvl.config.run import BackboneSettings
from ademvl.data.acquisition.checks import check_file
from ademvl.data.acquisition.existing import verify_copies
from ademvl.data.acquisition.registry import SourceFile, load_registry
from ademvl.data.acquisition.zip_entries import ZipArchive
from ademvl.data.image_files import open_rgb
from ademvl.data.tokenizer import SentencePieceTokenizer
from ademvl.errors import AdemvlError, WeightsError
from ademvl.llm.convert import convert_meta
from ademvl.llm.loading import load_llm
from ademvl.llm.meta_shards import map_shards
from ademvl.llm.source import llm_config
from ademvl.released.checkpoint import read_checkpoint
from ademvl.storage.files import read_json
from ademvl.storage.stand_ins import refuse_stand_in
from ademvl.tasks.scienceqa.copies import ExportParts
from ademvl.tasks.scienceqa.hub_export import convert_export
from ademvl.vision.tower import load_openai_format, load_tower
from tests import tiny
from tests.data.acquisition.studies import study_of

PAGE = (
    b"<!DOCTYPE html><html><head><title>Quota exceeded</title></head><body>Too many users have "
    b"downloaded this file recently.</body></html>\n"
)
POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)
CONTENTS = {
    "page": (PAGE, "is a web page .a download that was refused"),
    "page behind blanks": (b"\n  " + PAGE, "is a web page"),
    "answer of a store": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "web"),
    "pointer": (POINTER, "is a Git LFS pointer.*git lfs pull"),
}


def _convert(path):
    parts = ExportParts({"train": [path], "val": [path], "test": [path]}, None)
    convert_export(parts, path.parent / "out")


def _tower(path):
    tiny.make_tower(path.parent / "tower")
    load_tower(BackboneSettings(tower=tiny.TOWER, tower_weights=str(path)))


def _model_file(name):
    def read(path):
        folder = tiny.make_llm(path.parent / "model")
        path.rename(folder / name)
        load_llm(BackboneSettings(llm=str(folder)))

    return read


def _check_download(path):
    check_file(
        path, SourceFile(name=path.name, urls=("https://x",), origin="", bytes=9, sha256="0" * 64)
    )


def _verify_copy(path):
    folder = path.parent / "7B"
    folder.mkdir()
    path.rename(folder / path.name)
    (folder / "params.json").write_text("{}")
    study = study_of(path.parent, backbones={"llama_7b": {"existing": str(folder)}})
    verify_copies(study, load_registry())


def _convert_release(path):
    path.rename(path.with_name("consolidated.01.pth"))
    torch.save({}, path.with_name("consolidated.00.pth"))
    for name in ("params.json", "tokenizer.model"):
        path.with_name(name).write_bytes(b"{}")
    known = {"consolidated.01.pth": "0" * 64}
    convert_meta(path.parent, path.parent / "out", known_sha256=known)


READERS = {
    "downloaded.zip": _check_download,
    "consolidated.00.pth of a copy": lambda path: _verify_copy(
        path.rename(path.with_name("consolidated.00.pth"))
    ),
    "consolidated.01.pth": _convert_release,
    "checkpoint.pth": read_checkpoint,
    "checkpoint.safetensors": read_checkpoint,
    "consolidated.00.pth": lambda path: map_shards(path.parent),
    "tokenizer.model": SentencePieceTokenizer.from_file,
    "model.safetensors": _model_file("model.safetensors"),
    "config.json": _model_file("config.json"),
    "tower.pt": _tower,
    "tower.safetensors": _tower,
    "openai.safetensors": load_openai_format,
    "test-00000-of-00001.parquet": _convert,
    "images.zip": lambda path: ZipArchive(path),
    "problems.json": lambda path: read_json(path, remedy="Get it again."),
    "image.png": open_rgb,
    "model.gguf": lambda path: llm_config(BackboneSettings(llm=str(path))),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("content", CONTENTS)
def test_every_reader_calls_it_by_its_name(tmp_path, name, content):
    what, message = CONTENTS[content]
    path = tmp_path / name
    path.write_bytes(what)
    with pytest.raises(AdemvlError, match=message) as error:
        READERS[name](path)
    assert "weights_only" not in str(error.value)
    assert "trust" not in str(error.value)
    assert name.partition(" ")[0] in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "is an empty file"),
        (b"  \n", "is an empty file"),
        (b"Entry not found", "is a text that begins with 'Entry not found'"),
        (b'{"error": "Repository is gated"}', "is a text that begins with"),
    ],
)
def test_other_texts_are_no_weights(tmp_path, text, message):
    path = tmp_path / "model.bin"
    path.write_bytes(text)
    with pytest.raises(WeightsError, match=message):
        refuse_stand_in(path, expected="a checkpoint", error=WeightsError)


def _torch_bytes():
    stream = io.BytesIO()
    torch.save({"a": torch.ones(3)}, stream)
    return stream.getvalue()


def _image_bytes(kind):
    stream = io.BytesIO()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(stream, kind)
    return stream.getvalue()


GENUINE = {
    "torch": _torch_bytes(),
    "old torch": b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.",
    "safetensors whose header has 60 bytes": b"<\0\0\0\0\0\0\0" + b'{"a": 1}'.ljust(60),
    "png": _image_bytes("PNG"),
    "jpeg": _image_bytes("JPEG"),
    "parquet": b"PAR1\x15\x04\x15\x10",
    "sentencepiece": b"\n\x0e\n\x05<unk>\x15\0\0\0\0\x18\x02",
    "gguf": b"GGUF\x03\0\0\0\x10\x01\0\0",
    "latin-1": b"<" * 0 + "é\xff\x80".encode("latin-1"),
}


@pytest.mark.parametrize("name", GENUINE)
def test_genuine_files_pass(tmp_path, name):
    path = tmp_path / "file"
    path.write_bytes(GENUINE[name])
    refuse_stand_in(path, expected="a file", error=WeightsError)


def test_json_passes_where_a_text_is_expected(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"a": "<html>"}))
    refuse_stand_in(path, expected="JSON", error=WeightsError, is_text=True)
