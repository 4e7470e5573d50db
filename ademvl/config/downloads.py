"""Settings of downloads: what may be fetched, how, and which copies of weights are used instead."""

from collections.abc import Iterator
from pathlib import Path

from ademvl.config.setting import relation, setting, settings_class

META_PARAMS_FILE = "params.json"
"""Tells a folder in the layout of Meta's releases from others."""


@settings_class
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

    offline: bool = setting(changes="nothing", default=False)
    accepted_licenses: tuple[str, ...] = setting(changes="nothing", default=())
    extra_sources: tuple[str, ...] = setting(changes="nothing", default=())
    unpack: bool = setting(changes="speed", default=True)
    connections: int = setting(changes="speed", default=4, ge=1, le=100)
    retries: int = setting(changes="nothing", default=8, ge=0, le=1_000)
    stall_seconds: float = setting(changes="speed", default=60.0, gt=0, le=86_400)


@settings_class
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

    existing: str = setting(changes="results", default="", by_content=True)
    file: str = setting(changes="results", default="", by_content=True)
    member: str = setting(changes="results", default="", by_content=True, omitted_at_default=True)
    repository: str = setting(changes="results", default="", by_content=True)
    revision: str = setting(changes="results", default="main", by_content=True)

    @relation("existing", "repository")
    def _have_one_origin(self) -> Iterator[str]:
        if self.existing and self.repository:
            yield f"{self.existing} and repository {self.repository} exclude each other"

    @property
    def is_meta(self) -> bool:
        """Whether `existing` is in the layout of Meta's releases, and so to be converted first."""
        folder = Path(self.existing)
        has_config = (folder / "config.json").is_file()
        return bool(self.existing) and not has_config and (folder / META_PARAMS_FILE).is_file()

    def path(self, name: str, shared_dir: str) -> str:
        """Return the file or folder that a run loads.

        Args:
            shared_dir: folder of what is downloaded, unpacked, or converted from Meta's layout.
        """
        if self.existing:
            return f"{shared_dir}/converted/{name}" if self.is_meta else self.existing
        if self.member:
            return f"{shared_dir}/unpacked/{name}/{self.member}"
        downloads_dir = f"{shared_dir}/downloads/{name}"
        return f"{downloads_dir}/{self.file}" if self.file else downloads_dir
