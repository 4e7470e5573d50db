"""Operations of one typical row, which every training records: what methods are compared by.

The row has an image and the mean length of the training rows that have one; without any such
rows, of all. Its training is a forward and a backward pass, its answer the prompt's pass and one
token. An image whose features are cached costs no pass of the tower, as in the run.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ademvl.config.run import RunSettings
from ademvl.data.tokenizer import IGNORED_LABEL
from ademvl.errors import SettingsError
from ademvl.planning.fit import model_sizes, numerics_of
from ademvl.planning.flops import evaluation_flops, training_flops
from ademvl.planning.sizes import MicroBatch

if TYPE_CHECKING:
    from ademvl.data.rows import TokenizedExample

_log = logging.getLogger(__name__)


def operations_of_row(
    run: RunSettings, rows: "Sequence[TokenizedExample]"
) -> Mapping[str, int] | None:
    """Count the operations of training on a typical row, and of answering it with one token.

    Args:
        rows: of its training split, at least one.

    Returns:
        Numbers by `training` and `answer`, as torch's FlopCounterMode counts; and `tokens`, the
        row's length. None where they are not known, as of a method whose code needs values.
    """
    typical = [row for row in rows if row.image is not None] or list(rows)
    tokens = round(sum(len(row.ids) for row in typical) / len(typical))
    scored = sum(int((row.labels != IGNORED_LABEL).sum()) for row in typical) / len(typical)
    has_image = int(typical[0].image is not None)
    batch = MicroBatch(rows=1, image_rows=has_image, width=tokens, scored=max(1, round(scored)))
    try:
        sizes = model_sizes(run)
        return {
            "training": training_flops(sizes, numerics_of(run), batch).total,
            "answer": evaluation_flops(sizes, batch, new_tokens=1),
            "tokens": tokens,
        }
    except SettingsError as error:
        _log.warning("operations are not known: %s", error)
        return None
