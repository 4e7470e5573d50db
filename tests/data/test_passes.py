"""Protects how a step's rows become passes, and how devices share them."""

import itertools
import random

import pytest

from ademvl.data.passes import divide_rows, image_tokens, shared_passes

LENGTHS = [[9], [5, 5, 5, 5], [40, 3, 3, 3, 2, 2, 1, 1], [7, 6, 5, 4, 3, 2, 1, 1], [30, 29, 2, 2]]


def size_of(passes, sizes):
    """Tokens of the largest pass, padding included."""
    return max(len(rows) * max(sizes[row] for row in rows) for rows in passes)


def least_size(sizes, num_passes):
    """The same of the best division, by trying all of rows in order of length."""
    ordered = sorted(sizes, reverse=True)
    found = []
    for cuts in itertools.combinations(range(1, len(ordered)), min(num_passes, len(ordered)) - 1):
        ends = [0, *cuts, len(ordered)]
        found.append(max((b - a) * ordered[a] for a, b in itertools.pairwise(ends)))
    return min(found)


@pytest.mark.parametrize("sizes", LENGTHS, ids=str)
@pytest.mark.parametrize("num_passes", [1, 2, 4])
def test_the_largest_pass_is_as_small_as_it_can_be(sizes, num_passes):
    passes = divide_rows(sizes, num_passes=num_passes)
    assert sorted(itertools.chain(*passes)) == list(range(len(sizes)))
    assert len(passes) <= num_passes
    assert size_of(passes, sizes) == least_size(sizes, num_passes)


def test_rows_of_one_length_are_divided_evenly():
    assert [len(rows) for rows in divide_rows([12] * 32, num_passes=8)] == [4] * 8


def test_passes_do_not_depend_on_how_many_devices_share_them():
    sizes = random.Random(0).choices(range(1, 99), k=32)
    passes = divide_rows(sizes, num_passes=8)
    for num_devices in (1, 2, 8, 16):
        shares = shared_passes(passes, sizes, num_devices=num_devices)
        assert len(shares) == num_devices
        assert sorted(itertools.chain(*shares)) == sorted(passes)


def test_eight_devices_wait_little_for_the_busiest():
    """Lengths as those of ScienceQA: mean 105, longest 396; with passes of 4 rows it is 2.8."""
    generator = random.Random(0)
    lengths = [min(396, int(generator.lognormvariate(4.5, 0.5))) for _ in range(32 * 100)]
    waited = real = 0
    for start in range(0, len(lengths), 32):
        sizes = lengths[start : start + 32]
        shares = shared_passes(divide_rows(sizes, num_passes=8), sizes, num_devices=8)
        busiest = max(
            sum(len(rows) * max(sizes[row] for row in rows) for rows in share) for share in shares
        )
        waited, real = waited + 8 * busiest, real + sum(sizes)
    assert waited / real < 1.35


def test_an_image_counts_as_its_operations_do():
    llama_7b = {"llm_width": 4096, "llm_layers": 32}
    clip = {"tower_tokens": 257, "tower_width": 1024, "tower_blocks": 24}
    assert image_tokens(**clip, **llama_7b) == 12
