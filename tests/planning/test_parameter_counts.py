"""Protects the numbers of trained parameters that the paper prints."""

import pytest

from ademvl.config.method import ClipAdapterSettings
from ademvl.methods.adem.settings import AdemSettings
from ademvl.planning.parameter_counts import count_parameters, print_paper_counts

VIT_LARGE = {"tower_width": 1024, "tower_blocks": 24}


@pytest.mark.parametrize(
    ("settings", "llm_width", "online", "total"),
    [
        (AdemSettings(), 4096, True, 4_530_432),
        (AdemSettings(), 5120, True, 5_449_984),
        (AdemSettings(scales=(256,), cls=False), 4096, True, 3_346_560),
        (AdemSettings(scales=(256,)), 4096, True, 4_006_144),
        (AdemSettings(), 4096, False, 3_940_608),
    ],
)
def test_published_counts(settings, llm_width, online, total):
    parts = count_parameters(settings, llm_width=llm_width, online=online, **VIT_LARGE)
    assert sum(parts.values()) == total


def test_parts_by_hand():
    parts = count_parameters(AdemSettings(), llm_width=4096, online=True, **VIT_LARGE)
    projection = 1024 * 128 + 128 + 128 * 4096 + 4096
    assert parts == {
        "key_table": 320 * 4096,
        "value_table": 320 * 4096,
        "grid_projection": projection,
        "cls_projection": projection,
        "clip_adapters": 24 * 2 * 1024 * 12,
    }


def test_leaving_the_unused_adapter_out_saves_one_block():
    used = AdemSettings(clip_adapter=ClipAdapterSettings(last_block=False))
    parts = count_parameters(used, llm_width=4096, online=True, **VIT_LARGE)
    assert parts["clip_adapters"] == 23 * 2 * 1024 * 12


def test_the_paper_counts_are_printed(capsys):
    print_paper_counts()
    printed = capsys.readouterr().out
    for total in ("4,530,432", "5,449,984", "3,346,560", "4,006,144", "3,940,608"):
        assert total in printed
