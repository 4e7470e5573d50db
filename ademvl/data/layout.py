"""Lays a data set out in the project's one tree, with links to where its files lie.

`<shared_dir>/data/<dataset>/` gets a folder for each task, named in `docs/data.md`, and
`manifest.json`. The tree appears complete or not at all. What it links to is never changed.
"""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ademvl.config.dataset import DatasetSettings, Source
from ademvl.data.captions import karpathy_file
from ademvl.data.coco_images import CocoImages
from ademvl.data.findings import VERIFICATION_FILES
from ademvl.data.hub_export import convert_export
from ademvl.data.inspection import inspect_task
from ademvl.data.karpathy import (
    IMAGE_FOLDERS,
    rewrite_splits,
    split_combined,
    split_officially,
    write_references,
)
from ademvl.data.links import Linker
from ademvl.data.places import (
    CaptionParts,
    ExportParts,
    find_captions,
    find_instructions,
    find_mme,
    find_scienceqa,
)
from ademvl.data.scienceqa import SPLITS
from ademvl.data.taking import take_questions
from ademvl.errors import DataError
from ademvl.storage.files import sha256_file, write_json
from ademvl.storage.folders import folder_built_aside
from ademvl.storage.locks import lock_file

MANIFEST_FILE = "manifest.json"

_ENTRIES = ("scienceqa", "coco_caption", "instruction", "mme", MANIFEST_FILE, *VERIFICATION_FILES)
_SHARED_SOURCES: Mapping[Source, tuple[Source, ...]] = {"lavin_instruct": ("coco_caption",)}
"""Other sources whose files a source needs: LaVIN's instructions are about COCO's images."""
_log = logging.getLogger(__name__)


def make_dataset(manifest: Path, settings: DatasetSettings, *, started: Path | None = None) -> None:
    """Make the data set whose manifest is to be `<shared_dir>/data/<dataset>/manifest.json`.

    Jobs of several studies may do so at once: one makes it while the others wait.

    Args:
        manifest: of the data set; an earlier one is replaced with all that belongs to it.
        settings: of the data set.
        started: file that the present workflow touched when it began. A data set with the same
            settings that another workflow has made since then is left as it is.

    Raises:
        AdemvlError: what is missing or wrong, and what to do.
    """
    folder = manifest.parent
    folder.parent.mkdir(parents=True, exist_ok=True)
    with lock_file(folder.with_name(f".{folder.name}.lock")):
        if started is not None and _is_made_since(started, manifest, settings):
            _log.info("%s: made by another workflow meanwhile", folder)
            return
        if settings.source == "easy_vqa":
            from ademvl.data.mini import convert_easy_vqa

            convert_easy_vqa(folder, settings)
            return
        if settings.source == "many_shapes":
            from ademvl.data.many_shapes import draw_many_shapes

            draw_many_shapes(folder, settings)
            return
        shared_dir = manifest.absolute().parents[2]
        lay_out(folder, settings, places_of(settings, shared_dir), shared_dir=shared_dir)


def _is_made_since(started: Path, manifest: Path, settings: DatasetSettings) -> bool:
    try:
        made = json.loads(manifest.read_text(encoding="utf-8"))
        is_newer = manifest.stat().st_mtime_ns > started.stat().st_mtime_ns
        return is_newer and bool(made["settings"] == json.loads(json.dumps(settings.to_plain())))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def places_of(settings: DatasetSettings, shared_dir: Path) -> list[Path]:
    """Return where files of a data set may lie, in order of preference.

    That are existing copies, then what was unpacked, then what was downloaded.

    Raises:
        DataError: `existing` or `coco` is no folder.
    """
    places = []
    for key, copy in (("existing", settings.existing), ("coco", settings.coco)):
        if copy:
            folder = Path(copy).expanduser()
            if not folder.is_dir():
                raise DataError(
                    f"{folder}: no such folder; correct the key `{key}` of the data set"
                )
            places.append(folder.absolute())
    for source in (settings.source, *_SHARED_SOURCES.get(settings.source, ())):
        places += [shared_dir / stage / source for stage in ("unpacked", "downloads")]
    return [place for place in places if place.is_dir()]


def lay_out(
    output_dir: Path, settings: DatasetSettings, places: list[Path], *, shared_dir: Path
) -> None:
    """Link a real data set's files into `output_dir` and write its manifest.

    Args:
        output_dir: must not exist, be empty, or hold an earlier layout, which is replaced.
        settings: of the data set; its source is no mini one.
        places: folders to look in, in order of preference.
        shared_dir: links inside it are relative, so that it may be moved as a whole.

    Raises:
        DataError: no known layout in these places, or a file that has to be converted is damaged.
    """
    builder = _BUILDERS[settings.source]
    with folder_built_aside(output_dir, entries=_ENTRIES) as folder:
        linker = Linker(shared_dir)
        task_dir = folder / settings.tasks[0]
        task_dir.mkdir()
        facts = builder(task_dir, settings, places, linker)
        if settings.take:
            facts["questions_before_take"] = take_questions(task_dir, settings.take)
        if linker.num_copied:
            _log.info("%d files were copied: links do not work here", linker.num_copied)
        files = sorted([*task_dir.glob("*.json"), *task_dir.glob("*/*.json")])
        manifest = {
            "source": {
                "name": settings.source,
                "places": [str(place) for place in places],
                **facts,
            },
            "settings": settings.to_plain(),
            "counts": inspect_task(task_dir, settings.tasks[0]).counts,
            "sha256": {file.relative_to(folder).as_posix(): sha256_file(file) for file in files},
        }
        write_json(folder / MANIFEST_FILE, manifest)


def _lay_out_scienceqa(
    root: Path, settings: DatasetSettings, places: list[Path], linker: Linker
) -> dict[str, Any]:
    parts = find_scienceqa(places)
    if isinstance(parts, ExportParts):
        return {"layout": "Hugging Face export", "ids": convert_export(parts, root)}
    if not parts.splits.is_file():
        raise DataError(
            f"{parts.splits}: missing; it belongs beside {parts.problems.name}. "
            "Take it from the official repository."
        )
    linker.place(parts.problems, root / "problems.json")
    linker.place(parts.splits, root / "pid_splits.json")
    if parts.captions:
        linker.place(parts.captions, root / "captions.json")
    for split, folder in parts.image_folders.items():
        _place_images(folder, root, split, linker)
    return {"layout": parts.layout}


def _place_images(source: Path, root: Path, name: str, linker: Linker) -> None:
    """Place a folder of images as `images/<name>`, or a packed one as `images/<name>.zip`."""
    suffix = ".zip" if source.suffix == ".zip" else ""
    linker.place(source, root / "images" / f"{name}{suffix}")


def _lay_out_captions(
    root: Path, settings: DatasetSettings, places: list[Path], linker: Linker
) -> dict[str, Any]:
    parts = find_captions(places)
    for name, folder in parts.image_folders.items():
        _place_images(folder, root, name, linker)
    for name, file in parts.annotations.items():
        linker.place(file, root / "annotations" / f"captions_{name}.json")
    images = CocoImages(root / "images", parts.image_folders)
    if settings.caption_splits == "official":
        split_officially(parts.annotations, root, images)
        return {"layout": "COCO", "splits": "of COCO"}
    return {"layout": "COCO", "splits": _lay_out_karpathy(root, parts, images, linker)}


def _lay_out_karpathy(root: Path, parts: CaptionParts, images: CocoImages, linker: Linker) -> str:
    """Bring the Karpathy splits into place; return which form they came in."""
    if all(name in parts.karpathy for name in SPLITS):
        has_all_folders = not images.lack(IMAGE_FOLDERS)
        moved = {} if has_all_folders else {name: parts.karpathy[name] for name in SPLITS}
        rewrite_splits(moved, root, images)
        for name, file in parts.karpathy.items():
            if name not in moved:
                linker.place(file, karpathy_file(root, name))
        for split in ("val", "test"):
            if f"{split}_gt" not in parts.karpathy:
                write_references(root, split)
        return "of Karpathy, in BLIP's form"
    if parts.combined:
        split_combined(parts.combined, root, images)
        return f"of Karpathy, {parts.combined.name}"
    raise DataError(
        "COCO captions: images were found, but neither coco_karpathy_{train,val,test}.json nor "
        "dataset_coco.json. Put them beside the annotations or download them (docs/data.md); "
        "`caption_splits: official` does without."
    )


def _lay_out_instructions(
    root: Path, settings: DatasetSettings, places: list[Path], linker: Linker
) -> dict[str, Any]:
    file, images = find_instructions(places)
    linker.place(file, root / "all_data.json")
    if images:
        _place_images(images, root, "train2014", linker)
    return {"layout": "LaVIN"}


def _lay_out_mme(
    root: Path, settings: DatasetSettings, places: list[Path], linker: Linker
) -> dict[str, Any]:
    found = find_mme(places)
    for folder in sorted(found.iterdir()):
        if folder.is_dir():
            linker.place(folder, root / folder.name)
    return {"layout": "MME"}


_Builder = Callable[[Path, DatasetSettings, list[Path], Linker], dict[str, Any]]
_BUILDERS: Mapping[Source, _Builder] = {
    "scienceqa": _lay_out_scienceqa,
    "coco_caption": _lay_out_captions,
    "lavin_instruct": _lay_out_instructions,
    "mme": _lay_out_mme,
}
