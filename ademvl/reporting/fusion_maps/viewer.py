"""Fusion maps on the page: the pictures that were drawn, and their numbers to look at in detail."""

import base64
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ademvl.errors import DataError
from ademvl.reporting.fusion_maps.painting import relative_scores
from ademvl.reporting.fusion_maps.write import LIST_FILE
from ademvl.reporting.page.scripts import visible_text, write_data_script
from ademvl.reporting.page.thumbnails import Thumbnails
from ademvl.reporting.printable import printable
from ademvl.reporting.results import StudyResults
from ademvl.storage.files import atomic_path, read_json

KEY = "fusion-maps"
_REMEDY = "Delete the folder and draw the fusion maps again."


@dataclass(frozen=True)
class MapPicture:
    """A drawn fusion map.

    Attributes:
        src: path relative to the page.
        alt: for those who do not see it.
        run: label and seed.
        text: question with its answer, or generated caption.
    """

    src: str
    alt: str
    run: str
    text: str


@dataclass(frozen=True)
class FusionMaps:
    """What the template needs: pictures, data file of the viewer, and shares that runs drop.

    `is_learned` says whether there is a run that learned the share, or has a sparse normaliser.
    """

    pictures: tuple[MapPicture, ...] = ()
    script: str = ""
    gammas: tuple[float, ...] = ()
    is_learned: bool = False


def write_fusion_maps_data(
    results: StudyResults, page_dir: Path, thumbnails: Thumbnails
) -> FusionMaps:
    """Copy the drawn maps of all runs beside the page, and write their numbers for the viewer.

    Raises:
        DataError: a list of fusion maps is malformed, or a picture is missing.
    """
    pictures: list[MapPicture] = []
    entries: list[dict[str, Any]] = []
    gammas: set[float] = set()
    is_learned = False
    for run in results.runs:
        for seed in run.seeds:
            path = seed.run_dir / "fusion_maps" / LIST_FILE
            if seed.state != "finished" or not path.is_file():
                continue
            label = f"{printable(run.label)}, seed {seed.settings.seed}"
            group = f"{seed.settings.name}_seed{seed.settings.seed}"
            content = read_json(path, remedy=_REMEDY)
            try:
                gamma = content["gamma"]
                if gamma is None:
                    is_learned = True
                else:
                    gammas.add(float(gamma))
                for number, item in enumerate(content["items"], 1):
                    src = f"fusion_maps/{group}_{number}.png"
                    _copy(path.parent / item["picture"], page_dir / src)
                    picture = _picture(item, label, src)
                    name = str(item.get("question_id", item.get("image_id", number)))
                    image = item.get("image") and Path(item["image"])
                    small = image and thumbnails.add(image, group=f"{KEY}-{group}", name=name)
                    pictures.append(picture)
                    entries.append(
                        {
                            "run": picture.run,
                            "text": picture.text,
                            "image": small.href if small else None,
                            "words": [_word(word) for word in item["words"]],
                        }
                    )
            except (KeyError, TypeError, ValueError) as error:
                reason = f"{type(error).__name__}: {error}"
                raise DataError(f"{path}: malformed ({reason}). {_REMEDY}") from error
    if not pictures:
        return FusionMaps()
    script = f"data/{KEY}.js"
    write_data_script(page_dir / script, KEY, {"items": entries})
    return FusionMaps(tuple(pictures), script, tuple(sorted(gammas)), is_learned)


def _picture(item: Mapping[str, Any], label: str, src: str) -> MapPicture:
    words = ", ".join(word["word"] for word in item["words"])
    if "question" in item:
        text = f"{item['question']} Answer: {item['answer']}."
    else:
        text = f"Generated caption: “{item['caption']}”"
    return MapPicture(
        src, f"Image patches kept for the words {printable(words)}.", label, visible_text(text)
    )


def _word(word: Mapping[str, Any]) -> dict[str, Any]:
    """Render one word, for each scale and layer: patches that were kept, and their scores.

    Scores are bytes from the layer's lowest score of those kept (0) to its highest (255); `ends`
    are these two.
    """
    scales = []
    for scale in word["scales"]:
        rendered = [_scores(layer) for layer in scale["layers"]]
        scales.append(
            {
                "grid": int(scale["grid"]),
                "kept": [layer["kept"] for layer in scale["layers"]],
                "shades": [shades for shades, _ in rendered],
                "ends": [ends for _, ends in rendered],
            }
        )
    return {"word": visible_text(word["word"]), "scales": scales}


def _scores(layer: Mapping[str, str]) -> tuple[str, tuple[float, float]]:
    is_kept = np.array([flag == "1" for flag in layer["kept"]])
    scores = np.array([float(score) for score in layer["scores"].split()])
    relative = relative_scores(scores, is_kept)
    shades = base64.b64encode((255 * relative).round().astype(np.uint8).tobytes()).decode()
    kept = scores[is_kept] if is_kept.any() else np.zeros(1)
    return shades, (float(kept.min()), float(kept.max()))


def _copy(source: Path, target: Path) -> None:
    if not source.is_file():
        raise DataError(f"{source}: the picture is missing. {_REMEDY}")
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
