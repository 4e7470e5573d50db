"""Protects `snakemake tables`: all tables from whatever has been run, and nothing else is run."""

from pathlib import Path

from ademvl.reporting.tables.keys import TABLE_KEYS, TABLE_SUFFIXES
from tests.workflow.killing import run_to_end


def test_tables_are_made_though_nothing_has_been_run(tmp_path: Path) -> None:
    printed = run_to_end(tmp_path, "tables")
    results = tmp_path / "results" / "smoke"
    found = {path.name for path in (results / "tables").iterdir()}
    assert found == {f"{key}.{suffix}" for key in TABLE_KEYS for suffix in TABLE_SUFFIXES}
    assert "not run" in (results / "tables" / "accuracy.md").read_text(encoding="utf-8")
    assert "train_run" not in printed
    assert not (results / "runs").exists()
