"""Protects batches of evaluation as a plan draws them: put together as evaluation does."""

from ademvl.data.batching import MAX_PLACES
from ademvl.planning.passes import simulated_batches
from ademvl.planning.rows import Row

SHORT, LONG = (Row(width=width, scored=0, has_image=width > 50) for width in (10, 100))


def test_evaluation_is_counted_in_batches_of_like_length() -> None:
    batches = simulated_batches([SHORT, LONG], items=300, max_rows=64)
    assert sum(batch.rows for batch in batches) == 300
    assert max(batch.rows for batch in batches) == 64
    assert all(batch.rows * batch.width <= MAX_PLACES for batch in batches)
    mixed = [batch for batch in batches if 0 < batch.image_rows < batch.rows]
    assert len(mixed) <= 1


def test_nothing_to_evaluate_takes_no_batch() -> None:
    assert simulated_batches([SHORT], items=0, max_rows=64) == []
