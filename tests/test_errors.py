"""Protects what users read: messages of any content stay short enough to be read."""

import pytest

from ademvl.errors import AdemvlError, DataError, list_findings


@pytest.mark.parametrize("size", [2_001, 25_000_000])
def test_long_value_in_a_message_loses_its_middle(size: int) -> None:
    found = str(DataError(f"s.yaml: label: {'x' * size!r}, expected less\nAll keys: page."))
    assert len(found) < 2_100
    assert found.startswith("s.yaml: label: 'xxx")
    assert " characters ...] " in found
    assert found.endswith("x', expected less\nAll keys: page.")


def test_message_of_long_lists_stays_whole_line_by_line() -> None:
    text = list_findings("wrong", [f"finding {number}" for number in range(30)], "Correct it.")
    assert str(AdemvlError(text)) == text
    assert "... and 10 more" in text
