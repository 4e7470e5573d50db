"""Columns of numbers: those that score files have, and those of reported tables."""

from collections.abc import Mapping

from ademvl.reporting.reported import ReportedTable
from ademvl.reporting.tables.layout import Column

# Headers are the names in score files, keys those of the reported numbers.
SCIENCEQA_COLUMNS = tuple(
    Column(key=key, header=header, decimals=2, group=group)
    for key, header, group in (
        ("nat", "NAT", "subject"),
        ("soc", "SOC", "subject"),
        ("lan", "LAN", "subject"),
        ("txt", "TXT", "context"),
        ("img", "IMG", "context"),
        ("no", "NO", "context"),
        ("g1_6", "G1-6", "grade"),
        ("g7_12", "G7-12", "grade"),
        ("avg", "AVG", ""),
    )
)
CAPTION_COLUMNS = (
    Column(key="bleu4", header="BLEU-4", decimals=1),
    Column(key="cider", header="CIDEr", decimals=1),
    Column(key="rouge_l", header="ROUGE-L", decimals=1),
)
MME_COLUMNS = (
    Column(key="mme_p", header="MME-P", decimals=1),
    Column(key="mme_c", header="MME-C", decimals=1),
)
_HEADERS = {
    "vqav2": "VQAv2",
    "gqa": "GQA",
    "mmb": "MMB",
    "mmmu": "MMMU",
    "tflops": "TFLOPs a token",
    "train_s_per_batch": "training (s/batch)",
    "infer_s_per_batch": "inference (s/batch)",
    "scienceqa_gpu_h": "ScienceQA (GPU h)",
    "coco_gpu_h": "COCO captions (GPU h)",
    "instruction_gpu_h": "instructions (GPU h)",
}


def columns_of(table: ReportedTable) -> tuple[Column, ...]:
    """Return the columns of a reported table that no run of ours is scored on."""
    return tuple(
        Column(key=key, header=_HEADERS.get(key, key), decimals=decimals)
        for key, decimals in zip(table.columns, table.decimals, strict=True)
    )


def meaning_of(column: Column, notes: Mapping[str, str]) -> str:
    """Return what a category's questions are in a study's data; its name where nothing is said.

    Args:
        column: of ScienceQA's categories.
        notes: the study's `column_notes`.
    """
    if column.key == "avg" and notes:
        return notes.get("avg", "all questions")
    return notes.get(column.key, column.header)
