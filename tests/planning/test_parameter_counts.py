"""Protects the numbers of trained parameters that the paper prints."""

import pytest

from ademvl.config.method import ClipAdapterSettings
from ademvl.methods.adem.settings import AdemSettings
from ademvl.methods.gated_xattn.settings import GatedXattnSettings
from ademvl.methods.lavin.settings import LavinSettings
from ademvl.methods.llama_adapter.settings import LlamaAdapterSettings
from ademvl.methods.llama_adapter_v2.settings import LlamaAdapterV2Settings
from ademvl.methods.llava_lora.settings import LlavaLoraSettings
from ademvl.methods.lora.settings import LoraSettings
from ademvl.methods.memvp.settings import MemvpSettings
from ademvl.methods.vl_adapter.settings import VlAdapterSettings
from ademvl.planning.paper_counts import print_paper_counts
from ademvl.planning.parameter_counts import LLAMAS, VIT_L, count_parameters


@pytest.mark.parametrize(
    ("settings", "llm", "online", "total"),
    [
        (AdemSettings(), "LLaMA-7B", True, 4_530_432),
        (AdemSettings(), "LLaMA-13B", True, 5_449_984),
        (AdemSettings(scales=(256,), cls=False), "LLaMA-7B", True, 3_346_560),
        (AdemSettings(scales=(256,)), "LLaMA-7B", True, 4_006_144),
        (AdemSettings(), "LLaMA-7B", False, 3_940_608),
        (MemvpSettings(), "LLaMA-7B", True, 3_879_040),
        (MemvpSettings(table_rows=400), "LLaMA-13B", True, 5_487_744),
        (LoraSettings(), "LLaMA-7B", False, 4_194_304),
        (LlavaLoraSettings(), "LLaMA-7B", False, 4_853_888),
        (GatedXattnSettings(every=1), "LLaMA-7B", True, 4_526_282_816),
        (GatedXattnSettings(), "LLaMA-7B", False, 1_178_834_960),
        (GatedXattnSettings(every=1), "LLaMA-13B", False, 8_704_104_528),
        (GatedXattnSettings(), "LLaMA-13B", True, 2_223_290_388),
        (LlamaAdapterSettings(image=False), "LLaMA-7B", False, 1_229_760),
        (LlamaAdapterSettings(image=False), "LLaMA-13B", False, 1_947_120),
        (LlamaAdapterSettings(), "LLaMA-7B", False, 1_790_976),
        (LlamaAdapterSettings(), "LLaMA-13B", True, 2_574_896),
        (LlamaAdapterV2Settings(stage="pretrain"), "LLaMA-7B", True, 61_731_584),
        (LlamaAdapterV2Settings(stage="pretrain"), "LLaMA-13B", False, 63_248_704),
        (LlamaAdapterV2Settings(stage="finetune"), "LLaMA-7B", False, 1_363_968),
        (LlamaAdapterV2Settings(stage="finetune_after_pretrain"), "LLaMA-7B", False, 1_363_968),
        (LlamaAdapterV2Settings(stage="finetune"), "LLaMA-13B", True, 2_135_040),
        (LlamaAdapterV2Settings(), "LLaMA-7B", False, 61_731_584 + 1_363_968),
        (LavinSettings(), "LLaMA-7B", True, 3_781_296),
        (LavinSettings(temperature=5.0), "LLaMA-13B", True, 5_390_080),
        (LavinSettings(tower_adapters="plain"), "LLaMA-7B", True, 3_609_216),
        (LavinSettings(tower_adapters="plain"), "LLaMA-13B", True, 5_218_000),
    ],
)
def test_published_counts(settings, llm, online, total):
    parts = count_parameters(settings, llm=LLAMAS[llm], tower=VIT_L, online=online)
    assert sum(parts.values()) == total


def test_parts_by_hand():
    parts = count_parameters(AdemSettings(), llm=LLAMAS["LLaMA-7B"], tower=VIT_L, online=True)
    projection = 1024 * 128 + 128 + 128 * 4096 + 4096
    assert parts == {
        "key_table": 320 * 4096,
        "value_table": 320 * 4096,
        "grid_projection": projection,
        "cls_projection": projection,
        "clip_adapters": 24 * 2 * 1024 * 12,
    }


def test_parts_of_gated_cross_attention_by_hand():
    parts = count_parameters(
        GatedXattnSettings(every=32), llm=LLAMAS["LLaMA-7B"], tower=VIT_L, online=True
    )
    attention = 4096 * 512 + 1024 * 2 * 512 + 512 * 4096
    block = 2 + 2 * 4096 + attention + 2 * 4096 + 2 * 4 * 4096 * 4096
    layer = 2 * 2 * 1024 + 1024 * 3 * 512 + 512 * 1024 + 2 * 1024 + 2 * 4 * 1024 * 1024
    assert parts == {"perceiver": 64 * 1024 + 6 * layer + 2 * 1024, "blocks": block}


def test_parts_of_vl_adapter_by_hand():
    parts = count_parameters(VlAdapterSettings(), llm=LLAMAS["LLaMA-7B"], tower=VIT_L, online=True)
    adapter = 4096 * 512 + 512 + 512 * 4096 + 4096
    assert parts == {
        "visual_embedding": 1024 * 4096 + 4096 + 2 * 4096,
        "attention_adapters": 32 * adapter,
        "mlp_adapters": 32 * adapter,
        "norms": (2 * 32 + 1) * 4096,
    }


def test_leaving_the_unused_adapter_out_saves_one_block():
    used = AdemSettings(clip_adapter=ClipAdapterSettings(last_block=False))
    parts = count_parameters(used, llm=LLAMAS["LLaMA-7B"], tower=VIT_L, online=True)
    assert parts["clip_adapters"] == 23 * 2 * 1024 * 12


def test_the_paper_counts_are_printed(capsys):
    print_paper_counts()
    printed = capsys.readouterr().out
    for total in (
        *("4,530,432", "5,449,984", "3,346,560", "4,006,144", "3,940,608"),
        *("3,879,040", "5,487,744", "4,194,304", "4,853,888"),
        *("4,526,282,816", "1,178,834,960", "8,704,104,528", "2,223,290,388"),
        *("3,879,040", "5,487,744"),
        *("1,229,760", "1,790,976", "1,947,120", "2,574,896"),
        *("61,731,584", "1,363,968", "63,248,704", "2,135,040"),
        *("3,781,296", "5,390,080"),
    ):
        assert total in printed
