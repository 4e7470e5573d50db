"""Lays a data set out in the project's one tree, with links to where its files lie.

`<shared_dir>/data/<dataset>/` gets a folder for each task, named in `docs/data.md`, and
`manifest.json`. The tree appears complete or not at all. What it links to is never changed.
"""

import json
import logging
from pathlib import Path

from ademvl.config.dataset import DatasetSettings, Source
from ademvl.config.tasks import all_sources, task_folders
from ademvl.data.findings import VERIFICATION_FILES
from ademvl.data.links import Linker
from ademvl.errors import DataError
from ademvl.storage.files import sha256_file, write_json
from ademvl.storage.folders import folder_built_aside
from ademvl.storage.locks import lock_file
from ademvl.tasks.registry import inspect_folder, layout_of

MANIFEST_FILE = "manifest.json"

_ENTRIES = (*task_folders(), MANIFEST_FILE, *VERIFICATION_FILES)
_log = logging.getLogger(__name__)


def make_dataset(manifest: Path, settings: DatasetSettings, *, started: Path | None = None) -> None:
    """Make the data set whose manifest is to be `<shared_dir>/data/<dataset>/manifest.json`.

    Jobs of several studies may do so at once: one makes it while the others wait.

    Args:
        manifest: of the data set; an earlier one is replaced with all that belongs to it.
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
        lay_out(folder, settings, copies_of(settings, shared_dir), shared_dir=shared_dir)


def _is_made_since(started: Path, manifest: Path, settings: DatasetSettings) -> bool:
    try:
        made = json.loads(manifest.read_text(encoding="utf-8"))
        is_newer = manifest.stat().st_mtime_ns > started.stat().st_mtime_ns
        return is_newer and bool(made["settings"] == json.loads(json.dumps(settings.to_plain())))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def copies_of(settings: DatasetSettings, shared_dir: Path) -> list[Path]:
    """Return where files of a data set may lie, in order of preference.

    That are existing copies, then what was unpacked, then what was downloaded.

    Raises:
        DataError: `existing` or `coco` is no folder.
    """
    copies = []
    for key, copy in (("existing", settings.existing), ("coco", settings.coco)):
        if copy:
            folder = Path(copy).expanduser()
            if not folder.is_dir():
                raise DataError(
                    f"{folder}: no such folder; correct the key `{key}` of the data set"
                )
            copies.append(folder.absolute())
    for source in (settings.source, *_shared_sources(settings.source)):
        copies += [shared_dir / stage / source for stage in ("unpacked", "downloads")]
    return [copy for copy in copies if copy.is_dir()]


def _shared_sources(source: Source) -> tuple[str, ...]:
    facts = all_sources().get(source)
    return facts.shares if facts else ()


def lay_out(
    output_dir: Path, settings: DatasetSettings, copies: list[Path], *, shared_dir: Path
) -> None:
    """Link a real data set's files into `output_dir` and write its manifest.

    Args:
        output_dir: must not exist, be empty, or hold an earlier layout, which is replaced.
        settings: of the data set; its source is no mini one.
        copies: folders in which a copy may lie, in order of preference.
        shared_dir: links inside it are relative, so that it may be moved as a whole.

    Raises:
        DataError: no known layout in any copy, or a file that has to be converted is damaged.
    """
    layout = layout_of(settings.tasks[0])
    with folder_built_aside(output_dir, entries=_ENTRIES) as folder:
        linker = Linker(shared_dir)
        task_dir = folder / settings.tasks[0]
        task_dir.mkdir()
        facts = layout.lay_out(task_dir, settings, copies, linker)
        if linker.num_copied:
            _log.info("%d files were copied: links do not work here", linker.num_copied)
        files = sorted([*task_dir.glob("*.json"), *task_dir.glob("*/*.json")])
        manifest = {
            "source": {
                "name": settings.source,
                "places": [str(copy) for copy in copies],
                **facts,
            },
            "settings": settings.to_plain(),
            "counts": inspect_folder(task_dir, settings.tasks[0]).counts,
            "sha256": {file.relative_to(folder).as_posix(): sha256_file(file) for file in files},
        }
        write_json(folder / MANIFEST_FILE, manifest)
