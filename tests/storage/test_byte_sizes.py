"""Protects how numbers of bytes are told: three digits, and the unit that fits."""

import pytest

from ademvl.storage.byte_sizes import format_bytes, gib


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.6, "1 kB"),
        (1_234, "1.23 kB"),
        (999_600, "1 MB"),
        (682e6, "682 MB"),
        (13.46e9, "13.5 GB"),
        (1.5e15, "1,500 TB"),
    ],
)
def test_disks_are_told_in_decimal_units(number: float, text: str) -> None:
    assert format_bytes(number) == text


def test_memory_is_told_in_binary_units() -> None:
    assert [gib(2**30 - 1), gib(1.25 * 2**30)] == ["1024 MiB", "1.2 GiB"]
