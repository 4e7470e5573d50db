"""Checks that the rows exist that a study's runs want to stand beside."""

from ademvl.config.study import Study
from ademvl.errors import SettingsError, list_findings
from ademvl.reporting.reported import ReportedNumbers, load_reported


def check_reported(study: Study) -> None:
    """Refuse a study's references to rows that nobody reported; without any, nothing is read.

    Raises:
        SettingsError: lists them.
    """
    if any(template.reported for template in study.settings.runs.values()):
        check_references(study, load_reported())


def check_references(study: Study, numbers: ReportedNumbers) -> None:
    """Check that every row that a study's runs refer to was reported.

    Raises:
        SettingsError: lists each run and entry without a row, with the nearest names.
    """
    findings = []
    for name in study.settings.runs:
        for index, reference in enumerate(study.reported(name)):
            try:
                numbers.find(reference)
            except SettingsError as error:
                findings.append(f"runs.{name}.reported.{index}.{error}")
    if findings:
        remedy = "Tables and rows: workflow/reported, docs/tables.md."
        raise SettingsError(list_findings(f"study {study.name}: wrong settings", findings, remedy))
