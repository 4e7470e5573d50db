"""Numbers of trained parameters that papers print, from the modules themselves."""

from ademvl.config.method import MethodSettings
from ademvl.methods.adem.settings import AdemSettings
from ademvl.methods.gated_xattn.settings import GatedXattnSettings
from ademvl.methods.lavin.settings import LavinSettings
from ademvl.methods.llama_adapter.settings import LlamaAdapterSettings
from ademvl.methods.llama_adapter_v2.settings import LlamaAdapterV2Settings
from ademvl.methods.llava_lora.settings import LlavaLoraSettings
from ademvl.methods.lora.settings import LoraSettings
from ademvl.methods.memvp.settings import MemvpSettings
from ademvl.methods.vl_adapter.settings import VlAdapterSettings
from ademvl.planning.parameter_counts import LLAMAS, VIT_L, count_parameters, print_row


def print_paper_counts() -> None:
    """Print the counts of the paper's models, of its component ablation, and of other methods."""
    single = AdemSettings(scales=(256,), cls=False)
    rows: list[tuple[str, str, MethodSettings, bool]] = [
        ("LLaMA-7B", "LLaMA-7B", AdemSettings(), True),
        ("LLaMA-13B", "LLaMA-13B", AdemSettings(), True),
        ("LLaMA-7B, one scale, no [cls]", "LLaMA-7B", single, True),
        ("LLaMA-7B, one scale", "LLaMA-7B", AdemSettings(scales=(256,)), True),
        ("LLaMA-7B, cached features", "LLaMA-7B", AdemSettings(), False),
        ("MemVP, LLaMA-7B", "LLaMA-7B", MemvpSettings(), True),
        ("MemVP, LLaMA-13B", "LLaMA-13B", MemvpSettings(table_rows=400), True),
        ("LoRA, LLaMA-7B", "LLaMA-7B", LoraSettings(), False),
        ("LLaVA-LoRA, LLaMA-7B", "LLaMA-7B", LlavaLoraSettings(), False),
        *(
            (f"gated, {each} layer, {llm}", llm, GatedXattnSettings(every=every), True)
            for each, every in (("every", 1), ("every 4th", 4))
            for llm in LLAMAS
        ),
        *((f"VL-Adapter, {llm}", llm, VlAdapterSettings(), True) for llm in LLAMAS),
        ("LaVIN, LLaMA-7B", "LLaMA-7B", LavinSettings(), True),
        ("LaVIN, LLaMA-13B", "LLaMA-13B", LavinSettings(temperature=5.0), True),
    ]
    for llm in LLAMAS:
        rows += [
            (f"LLaMA-Adapter, text, {llm}", llm, LlamaAdapterSettings(image=False), False),
            (f"LLaMA-Adapter, {llm}", llm, LlamaAdapterSettings(), False),
            (f"V2, pretrain, {llm}", llm, LlamaAdapterV2Settings(stage="pretrain"), False),
            (f"V2, finetune, {llm}", llm, LlamaAdapterV2Settings(stage="finetune"), False),
        ]
    for label, llm, settings, online in rows:
        print_row(label, count_parameters(settings, llm=LLAMAS[llm], tower=VIT_L, online=online))
