"""RO-Crate metadata of a bundle (https://w3id.org/ro/crate/1.1): what each file is."""

import mimetypes
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import ademvl
from ademvl.bundle.collection import Collection
from ademvl.config.settings_files import STUDY_FILE
from ademvl.runs.run_files import RunFiles
from ademvl.storage.files import dump_json

CRATE_FILE = "ro-crate-metadata.json"
_PROFILE = "https://w3id.org/ro/crate/1.1"
_CONTEXT = [f"{_PROFILE}/context", {"sha256": "https://schema.org/sha256"}]
_PAPER = "https://arxiv.org/abs/2410.17779"
_UNKNOWN_DATE = "1970-01-01"
_NO_LICENSE = (
    "No licence was given. Ask those who made these results before passing them on; "
    "data and weights have licences of their own."
)
_SOFTWARE = "#ademvl"
_TYPES = {
    ".jsonl": "application/jsonl",
    ".md": "text/markdown",
    ".safetensors": "application/octet-stream",
    ".tex": "application/x-tex",
    ".yaml": "application/yaml",
}
_OF_RUN = RunFiles(Path())
_DESCRIPTIONS = {
    "manifest.json": "Names, sizes and checksums of all files; states of all runs",
    STUDY_FILE: "Settings of the study",
    _OF_RUN.settings.name: "Resolved settings of one run",
    _OF_RUN.provenance.name: "Code, packages, hardware, checksums of data and weights, cost",
    _OF_RUN.metrics.name: "Logged steps of a training",
    _OF_RUN.kept.name: "Shares of the image tokens that text tokens kept, by epoch",
    _OF_RUN.adapter_json.name: "What the trained parameters belong to",
    _OF_RUN.adapter_weights.name: "Trained parameters",
}
_FOLDERS = {
    "scores": "Scores with intervals",
    "predictions": "Predictions of every item",
    "answers": "Right answers or reference captions, for paired tests",
    "rates": "What a run's learning rate was chosen from, scored on the val split",
    "tables": "Measured beside reported numbers",
    "figures": "Figure",
}


def crate_metadata(
    collection: Collection, checksums: Mapping[str, str | None], *, license_text: str
) -> str:
    """Render the metadata as JSON-LD.

    Args:
        collection: what the bundle holds.
        checksums: SHA-256 of every file in the bundle but this one, by name; None where unknown.
        license_text: under which the results are passed on, a URL or words; empty for none, and
            then that stands there, as RO-Crate demands a licence.
    """
    sizes = {name: len(content) for name, content in collection.files.items()}
    files = [
        _file(name, sha256=checksum, size=sizes.get(name)) for name, checksum in checksums.items()
    ]
    root: dict[str, Any] = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"Results of the study {collection.study}",
        "description": "Scores, predictions, settings and provenance of trainings of ADEM-VL",
        "datePublished": collection.ended[:10] or _UNKNOWN_DATE,
        "hasPart": [{"@id": entity["@id"]} for entity in files],
        "citation": {"@id": _PAPER},
        "license": license_text or _NO_LICENSE,
    }
    linked = []
    if "://" in license_text:
        root["license"] = {"@id": license_text}
        linked = [
            {
                "@id": license_text,
                "@type": "CreativeWork",
                "name": license_text,
                "description": "Licence of these results; data and weights have their own",
            }
        ]
    graph = [
        {
            "@id": CRATE_FILE,
            "@type": "CreativeWork",
            "conformsTo": {"@id": _PROFILE},
            "about": {"@id": "./"},
        },
        root,
        *files,
        {
            "@id": "#study",
            "@type": "CreateAction",
            "name": f"Trainings and evaluations of the study {collection.study}",
            "instrument": {"@id": _SOFTWARE},
            "result": [
                {"@id": name}
                for name in checksums
                if PurePosixPath(name).parts[0] in ("runs", "tables", "figures")
            ],
            **({"endTime": collection.ended} if collection.ended else {}),
        },
        {
            "@id": _SOFTWARE,
            "@type": "SoftwareApplication",
            "name": "ademvl",
            "version": ademvl.__version__,
        },
        {
            "@id": _PAPER,
            "@type": "ScholarlyArticle",
            "name": "ADEM-VL: Adaptive and Embedded Fusion for Efficient Vision-Language Tuning",
        },
        *linked,
    ]
    return dump_json({"@context": _CONTEXT, "@graph": graph})


def _file(name: str, *, sha256: str | None, size: int | None) -> dict[str, Any]:
    path = PurePosixPath(name)
    folder = next((part for part in path.parts[:-1] if part in _FOLDERS), "")
    description = _DESCRIPTIONS.get(path.name) or _FOLDERS.get(folder, "")
    encoding = _TYPES.get(path.suffix) or mimetypes.types_map.get(path.suffix, "text/plain")
    entity: dict[str, Any] = {
        "@id": name,
        "@type": "File",
        "name": path.name,
        "encodingFormat": encoding,
    }
    if sha256 is not None:
        entity["sha256"] = sha256
    if size is not None:
        entity["contentSize"] = str(size)
    if description:
        entity["description"] = description
    return entity
