"""The settings beyond the paper that a training may have, all on at once."""

from pathlib import Path

from ademvl.config.method import ClipAdapterSettings
from ademvl.config.run import RunSettings
from ademvl.methods.adem.settings import AdemSettings
from tests import tiny

METHOD = AdemSettings(
    scales=(16, 4),
    projection_width=8,
    clip_adapter=ClipAdapterSettings(dim=2),
    gamma=0.3,
    threshold="per_token",
    threshold_relaxation="sigmoid",
    kept_target=0.5,
    kept_weight=3.0,
    score_dropout=0.2,
    layer_dropout=0.2,
    token_dropout=0.2,
)


def make_run(folder: Path, **changes: object) -> RunSettings:
    """Return the tiny run of `tests.tiny` with all of them."""
    beyond = {
        "method": METHOD,
        "label_smoothing": 0.1,
        "weight_averaging": "ema",
        "ema_decay": 0.9,
    }
    return tiny.make_run(folder, **{**beyond, **changes})
