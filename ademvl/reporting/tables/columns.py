"""Columns of numbers: those that score files have, and those of reported tables."""

from collections.abc import Mapping

from ademvl.config.tasks import facts_of
from ademvl.reporting.reported import ReportedTable
from ademvl.reporting.tables.layout import Column


def task_columns(task: str) -> tuple[Column, ...]:
    """Return the columns of a task's scores.

    Headers are the names in score files, keys those of the reported numbers.
    """
    return tuple(
        Column(key=column.key, header=column.header, decimals=column.decimals, group=column.group)
        for column in facts_of(task).columns
    )


SCIENCEQA = "scienceqa"
"""Task that the paper's ablations, and so most of its tables and figures, are about."""
SCIENCEQA_COLUMNS = task_columns(SCIENCEQA)
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
