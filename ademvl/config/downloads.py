"""Settings of downloads: what may be fetched, how, and which copies of weights are used instead."""

from dataclasses import dataclass, field
from pathlib import Path

from ademvl.config.ranges import check_ranges
from ademvl.config.schema import OMITTED_AT_DEFAULT
from ademvl.errors import SettingsError

META_PARAMS_FILE = "params.json"
"""Tells a folder in the layout of Meta's releases from others."""


@dataclass(frozen=True, kw_only=True)
class DownloadSettings:
    """How data and weights reach this machine; has no influence on results.

    Attributes:
        offline: never use the network; what is missing is listed instead.
        accepted_licenses: names of licences that you have read and accept, such as `llama`; weights
            under other licences of this kind are not fetched. `ademvl data plan` names them.
        extra_sources: sources fetched beside those that the study needs, such as
            `adem_released_scienceqa`.
        unpack: unpack archives of images; false reads images straight from the archives.
        connections: files fetched at the same time.
        retries: attempts in a row that may fail without any byte gained before an address is
            given up.
        stall_seconds: a connection that delivers nothing for so long is made anew.
    """

    offline: bool = False
    accepted_licenses: tuple[str, ...] = ()
    extra_sources: tuple[str, ...] = ()
    unpack: bool = True
    connections: int = 4
    retries: int = 8
    stall_seconds: float = 60.0

    def __post_init__(self) -> None:
        ranges = {">= 1": ("connections",), ">= 0": ("retries",), "> 0": ("stall_seconds",)}
        check_ranges("downloads", self, ranges)


@dataclass(frozen=True, kw_only=True)
class WeightsSource:
    """Weights under the name of a source, which runs then use as `llm` or `tower_weights`.

    Attributes:
        existing: a copy used in place: the file named below, or a folder in the layout of
            transformers or of Meta's releases, which is converted once, into
            <shared_dir>/converted; empty fetches the source.
        file: of sources made of single files, the one that is loaded; empty for a folder.
        member: where `file` is an archive, the file inside it that is loaded.
        repository: repository of the Hugging Face hub in place of the source's own.
        revision: branch, tag or commit of `repository`.
    """

    existing: str = ""
    file: str = ""
    member: str = field(default="", metadata=OMITTED_AT_DEFAULT)
    repository: str = ""
    revision: str = "main"

    def __post_init__(self) -> None:
        if self.existing and self.repository:
            raise SettingsError(
                f"backbones: existing {self.existing} and repository {self.repository} "
                "exclude each other"
            )

    @property
    def is_meta(self) -> bool:
        """Whether `existing` is in the layout of Meta's releases, and so to be converted first."""
        folder = Path(self.existing)
        has_config = (folder / "config.json").is_file()
        return bool(self.existing) and not has_config and (folder / META_PARAMS_FILE).is_file()

    def path(self, name: str, shared_dir: str) -> str:
        """Return the file or folder that a run loads.

        Args:
            name: of the source.
            shared_dir: folder of what is downloaded, unpacked, or converted from Meta's layout.
        """
        if self.existing:
            return f"{shared_dir}/converted/{name}" if self.is_meta else self.existing
        if self.member:
            return f"{shared_dir}/unpacked/{name}/{self.member}"
        downloads_dir = f"{shared_dir}/downloads/{name}"
        return f"{downloads_dir}/{self.file}" if self.file else downloads_dir
