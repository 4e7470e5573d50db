"""Protects the registry of sources: complete, well-formed, and refused where it is not."""

import csv
from pathlib import Path

import pytest

from ademvl.data.acquisition.registry import load_registry
from ademvl.errors import SettingsError

GOOD = """
licenses:
  free: {name: Free, url: ""}
sources:
  things:
    title: Things
    license: free
    page: ""
    files:
      - {name: a.zip, urls: ["https://example.org/a.zip"], origin: here}
"""


def refusal(folder: Path, text: str) -> str:
    path = folder / "sources.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load_registry(path)
    return str(caught.value)


def test_all_that_studies_may_name_is_there() -> None:
    registry = load_registry()
    assert {
        *("scienceqa", "coco_caption", "aokvqa", "lavin_instruct", "mme", "clip_vit_l14"),
        *("clip_vit_b32", "smollm2"),
        *("clip_rn50", "clip_convnext_base_w", "siglip2_base"),
        *("dinov2_registers_base", "dinov3_base"),
        *("smollm2_360m", "llama3_2_1b", "qwen3_0_6b", "gemma3_1b", "phi_2", "olmo2_1b"),
        *("llama_7b", "llama_13b", "llama2_7b"),
        *("llava_1_5_7b", "llava_1_5_13b", "blip_large_captioning", "blip2_opt_2_7b_coco"),
        *("unifiedqa_t5_base", "unifiedqa_t5_large"),
        *(f"adem_released_{task}" for task in ("scienceqa", "caption", "instruction")),
        *("lavin_released_7b", "lavin_released_13b", "memvp_released"),
    } == set(registry.sources)
    assert registry.license_of("llama_7b").must_accept


def test_weights_of_llama_come_without_their_duplicates() -> None:
    hub = load_registry().source("llama_7b").hub
    assert "*.safetensors" in hub.patterns
    assert not any("bin" in pattern for pattern in hub.patterns)


def test_sizes_and_checksums_are_those_that_were_collected(real_dir: Path) -> None:
    with (real_dir / "downloads.tsv").open(encoding="utf-8") as stream:
        rows = {row["url"]: row for row in csv.DictReader(stream, delimiter="\t")}
    compared = 0
    for source in load_registry().sources.values():
        for file in source.files:
            for url in file.urls:
                if url in rows:
                    row = rows[url]
                    assert str(file.bytes or "") == row["bytes"]
                    assert (file.md5, file.sha256) == (row["md5"], row["sha256"])
                    compared += 1
    assert compared >= 18


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("origin: here", "origin: here, size: 4", "size: unknown key"),
        ("license: free", "license: fre", "sources.things.license: 'fre' is not under licenses"),
        ("name: a.zip", "name: ../a.zip", "must be a plain, visible file name"),
        ("https://example.org/a.zip", "ftp://example.org/a", "is of no known kind"),
        ("origin: here", "origin: here, md5: abc", "md5 'abc' is none"),
        ("origin: here", "origin: here, unpack_to: ../x", "unpack_to '../x' leaves its folder"),
        ("origin: here", "origin: here, images: true", "images without unpack_to"),
        ("page: ", "needs: [others]\n    page: ", "no source 'others'"),
        ("sources:", "sources: [", "cannot be read as a registry"),
    ],
)
def test_malformed_registry_is_refused(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert expected in refusal(tmp_path, GOOD.replace(old, new))


def test_unknown_source_names_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="'coco' is no source of data or weights; known: scie"):
        load_registry().source("coco")


@pytest.mark.parametrize("name", ["things", "free", "title"])
def test_name_that_stands_twice_is_refused_with_its_line(tmp_path: Path, name: str) -> None:
    lines = GOOD.splitlines(keepends=True)
    place = next(n for n, line in enumerate(lines) if line.lstrip().startswith(f"{name}:"))
    end = len(lines) if name == "things" else place + 1
    text = "".join([*lines[:end], *lines[place:]])

    message = refusal(tmp_path, text)
    assert message.startswith(str(tmp_path / "sources.yaml"))
    assert f"key {name!r} occurs twice" in message
    assert f"line {end + 1}, column" in message
    assert "rename or remove one" in message
