"""Protects greedy generation against the reference implementation (golden case F)."""

from ademvl.golden.generation import check_generation


def test_golden_generation(golden_dir):
    checks = check_generation(golden_dir)
    assert checks
    assert [check for check in checks if not check.passed] == []


def test_absent_case_gives_no_checks(tmp_path):
    assert check_generation(tmp_path) == []
