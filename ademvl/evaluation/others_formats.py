"""Writes a run's predictions in the formats of other programs.

ScienceQA and MME become samples of lmms-eval (`--log_samples`), one a line; captions the list that
the COCO evaluation server takes. `ademvl score` reads both again.
"""

from pathlib import Path

from ademvl.config.settings_files import read_run
from ademvl.errors import DataError, list_findings
from ademvl.runs.run_files import RunFiles
from ademvl.storage.files import read_json_or_lines, write_text
from ademvl.tasks.base import Row
from ademvl.tasks.lmms_samples import REMEDY
from ademvl.tasks.registry import task_named


def write_predictions(run_dir: Path, output: Path) -> int:
    """Write the predictions of a run to a file; return how many they are.

    Args:
        run_dir: folder with run.yaml and predictions/.
        output: by custom .jsonl for samples of lmms-eval; the COCO server asks for a file named
            captions_<split>_<name>_results.json.

    Raises:
        SettingsError, DataError: settings, predictions or data set are missing or malformed, or the
            predictions are of other items than the data set has.
    """
    run = read_run(run_dir)
    path = RunFiles(run_dir).predictions(run.evaluation_task)
    task = task_named(run.task)
    rows = _read_rows(path, task.value_key, task.value_type)
    write_text(output, f"{task.in_other_format(run, path, rows)}\n")
    return len(rows)


def _read_rows(path: Path, key: str, expected: type) -> list[Row]:
    """Read predictions that have an id and the key that is written.

    Raises:
        DataError: missing or malformed file; lists rows without either.
    """
    rows = read_json_or_lines(path, remedy=REMEDY)
    rows = rows if isinstance(rows, list) else [rows]
    findings = [
        f"row {number}: expected an object with id and {key}"
        for number, row in enumerate(rows, start=1)
        if not (
            isinstance(row, dict)
            and isinstance(row.get("id"), str)
            and type(row.get(key)) is expected
        )
    ]
    if findings:
        raise DataError(list_findings(f"{path}: predictions cannot be read", findings, REMEDY))
    return rows
