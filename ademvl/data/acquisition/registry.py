"""The registry of sources: what can be fetched, from where, with which checksums and licence.

The data stands in ademvl/data/sources.yaml; this module reads it strictly.
"""

import re
from collections.abc import Mapping
from dataclasses import field
from functools import cache
from pathlib import Path, PurePosixPath

import yaml

from ademvl.config.reading import read
from ademvl.config.setting import record_class
from ademvl.config.strict_yaml import load_yaml
from ademvl.errors import SettingsError, list_findings

REGISTRY_PATH = Path(__file__).parents[1] / "sources.yaml"
DRIVE_FILE = "gdrive:"
DRIVE_FOLDER = "gdrive-folder:"
PYTHON_PACKAGE = "pip:"

_URL = re.compile(r"https?://.+|gdrive:[\w-]+|gdrive-folder:[\w-]+/.+|pip:[\w.-]+==[\w.]+")
_HEX_LENGTHS = {"md5": 32, "sha256": 64, "git_blob": 40}


@record_class
class License:
    """Terms under which sources are given.

    Attributes:
        name: as people call it.
        url: where it stands.
        must_accept: a study has to say that its user accepted it.
    """

    name: str
    url: str
    must_accept: bool = False


@record_class
class SourceFile:
    """One file of a source.

    Attributes:
        name: file name under <shared_dir>/downloads/<source>.
        urls: in order of preference.
        bytes: exact size, 0 where unknown.
        approximate_bytes: for plans, where the exact size is unknown.
        md5, sha256, git_blob: hex checksums, empty where unknown.
        origin: where size and checksums come from.
        unpack_to: of archives, folder under <shared_dir>/unpacked/<source>; empty for other files.
        images: an archive of images, which may also be read in place.
        unpacked_bytes: of archives, for plans; 0 where unknown.
    """

    name: str
    urls: tuple[str, ...]
    origin: str
    bytes: int = 0
    approximate_bytes: int = 0
    md5: str = ""
    sha256: str = ""
    git_blob: str = ""
    unpack_to: str = ""
    images: bool = False
    unpacked_bytes: int = 0

    @property
    def has_checksum(self) -> bool:
        """Whether a checksum is known beforehand."""
        return bool(self.md5 or self.sha256 or self.git_blob)

    @property
    def is_archive(self) -> bool:
        """Whether the file is to be unpacked."""
        return bool(self.unpack_to)


@record_class
class HubRepository:
    """Files of a repository on the Hugging Face hub.

    Attributes:
        repository: owner/name.
        revision: branch, tag or commit.
        patterns: which files are wanted.
        approximate_bytes: for plans.
        sha256: of single files that are known.
    """

    repository: str
    revision: str = "main"
    patterns: tuple[str, ...] = ("*",)
    approximate_bytes: int = 0
    sha256: Mapping[str, str] = field(default_factory=dict)


@record_class
class Source:
    """A data set or a set of weights.

    Attributes:
        title: one line on what it is.
        license: key of the registry's licences.
        page: where people read about it.
        files: what is fetched file by file.
        hub: or a repository that is fetched whole.
        needs: other sources without which it is of no use.
        meta_sha256: of files of Meta's own release, for copies in its layout.
    """

    title: str
    license: str
    page: str
    files: tuple[SourceFile, ...] = ()
    hub: HubRepository = HubRepository(repository="")
    needs: tuple[str, ...] = ()
    meta_sha256: Mapping[str, str] = field(default_factory=dict)


@record_class
class Registry:
    """All sources and licences by name.

    Attributes:
        licenses: by name.
        sources: by name.
    """

    licenses: Mapping[str, License]
    sources: Mapping[str, Source]

    def source(self, name: str) -> Source:
        """Return a source.

        Raises:
            SettingsError: no source has this name.
        """
        if name not in self.sources:
            known = ", ".join(self.sources)
            raise SettingsError(f"{name!r} is no source of data or weights; known: {known}")
        return self.sources[name]

    def license_of(self, name: str) -> License:
        """Return the licence of a source."""
        return self.licenses[self.source(name).license]


def load_registry(path: Path = REGISTRY_PATH) -> Registry:
    """Read a registry; the one of the package by default.

    Raises:
        SettingsError: lists all that is malformed: unknown keys, unknown licences, checksums that
            are none, names that leave their folder, URLs of an unknown kind. Or a name stands
            twice, of which a plain reader would drop the first; with its line.
    """
    return _load(path)


@cache
def _load(path: Path) -> Registry:
    try:
        raw = load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read as a registry of sources: {error}") from error
    except yaml.YAMLError as error:
        raise SettingsError(
            f"{path}: cannot be read as a registry of sources: {error}\n"
            "Correct that place; of two entries with one name, rename or remove one."
        ) from error
    if not isinstance(raw, dict):
        raise SettingsError(f"{path}: expected keys licenses and sources")
    remedy = "The keys are explained at the head of ademvl/data/sources.yaml."
    registry = read(Registry, raw, source=str(path), remedy=remedy)
    findings = [
        f"sources.{name}{finding}"
        for name, source in registry.sources.items()
        for finding in _findings(source, registry)
    ]
    if findings:
        raise SettingsError(list_findings(f"{path}: malformed registry", findings, remedy))
    return registry


def _findings(source: Source, registry: Registry) -> list[str]:
    findings = []
    if source.license not in registry.licenses:
        findings.append(f".license: {source.license!r} is not under licenses")
    findings += [f".needs: no source {n!r}" for n in source.needs if n not in registry.sources]
    if bool(source.files) == bool(source.hub.repository):
        findings.append(": needs either files or hub")
    names = [file.name for file in source.files]
    findings += [
        f": {name} occurs twice" for name in sorted({n for n in names if names.count(n) > 1})
    ]
    for file in source.files:
        findings += [f".{file.name}: {finding}" for finding in _file_findings(file)]
    for name, checksum in (*source.hub.sha256.items(), *source.meta_sha256.items()):
        if not _is_hex(checksum, _HEX_LENGTHS["sha256"]):
            findings.append(f": {checksum!r} is no sha256 ({name})")
    return findings


def _file_findings(file: SourceFile) -> list[str]:
    findings = []
    if PurePosixPath(file.name).name != file.name or file.name.startswith("."):
        findings.append("the name must be a plain, visible file name")
    if PurePosixPath(file.unpack_to).is_absolute() or ".." in PurePosixPath(file.unpack_to).parts:
        findings.append(f"unpack_to {file.unpack_to!r} leaves its folder")
    if file.images and not file.is_archive:
        findings.append("images without unpack_to")
    if not file.urls:
        findings.append("no URL")
    findings += [f"URL {url!r} is of no known kind" for url in file.urls if not _URL.fullmatch(url)]
    for kind, length in _HEX_LENGTHS.items():
        checksum = getattr(file, kind)
        if checksum and not _is_hex(checksum, length):
            findings.append(f"{kind} {checksum!r} is none")
    return findings


def _is_hex(text: str, length: int) -> bool:
    return re.fullmatch(rf"[0-9a-f]{{{length}}}", text) is not None
