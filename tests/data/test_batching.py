"""Protects evaluation batches: every row once, like lengths together, no more places than asked."""

from hypothesis import given
from hypothesis import strategies as st

from ademvl.data.batching import MAX_PLACES, batches_by_length

LENGTHS = st.lists(st.integers(1, MAX_PLACES + 9), max_size=60)
MAX_ROWS = st.integers(1, 20)


@given(LENGTHS, MAX_ROWS)
def test_every_row_is_in_one_batch(lengths, max_rows):
    batches = batches_by_length(lengths, max_rows=max_rows)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))


@given(LENGTHS, MAX_ROWS)
def test_rows_come_longest_first_and_equals_in_their_order(lengths, max_rows):
    batches = batches_by_length(lengths, max_rows=max_rows)
    order = [row for batch in batches for row in batch]
    assert order == sorted(order, key=lambda row: (-lengths[row], row))


@given(LENGTHS, MAX_ROWS)
def test_a_batch_takes_no_more_rows_and_places_than_it_may(lengths, max_rows):
    for batch in batches_by_length(lengths, max_rows=max_rows):
        assert len(batch) <= max_rows
        assert len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= MAX_PLACES


def test_rows_of_one_length_fill_their_batches():
    assert batches_by_length([7] * 5, max_rows=2) == [[0, 1], [2, 3], [4]]


def test_long_rows_have_fewer_beside_them():
    lengths = [MAX_PLACES // 4, MAX_PLACES + 1, MAX_PLACES // 4, MAX_PLACES // 2, 1, 1]
    assert batches_by_length(lengths, max_rows=3) == [[1], [3, 0], [2, 4, 5]]
