"""ADEM-VL reproduced: a frozen LLaMA and a frozen CLIP joined by about 4.5 M trained parameters.

`load` is for scripts and notebooks; everything else is reached by the command line.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ademvl.prediction.adapted_model import AdaptedModel

__all__ = ["load"]
__version__ = "0.1.0"


def load(path: str | Path) -> "AdaptedModel":
    """Load a trained adapter with its frozen models, to ask it about images.

    Args:
        path: directory of a run, of which the lowest trained seed is taken, or of one of its seeds,
            such as `results/mini/runs/adem/seed0`; or an adapter folder, wherever it lies.

    Raises:
        WeightsError, SettingsError: no adapter there, or it does not fit its frozen models.
    """
    from ademvl.prediction.adapted_model import AdaptedModel
    from ademvl.runs.trained_adapter import find_adapter

    return AdaptedModel(find_adapter(Path(path)))
