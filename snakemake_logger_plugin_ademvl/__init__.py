"""Logger plugin of Snakemake, found by its name: `snakemake --logger ademvl`, as the profiles say.

It shows a workflow by `ademvl.workflow.terminal`; Snakemake's own lines stay in its log file, and
are what dry runs and `--verbose` print.
"""

import logging
import sys
import threading

from rich.console import Console
from snakemake_interface_logger_plugins.base import LogHandlerBase

from ademvl.workflow.terminal.display import Display
from ademvl.workflow.terminal.records import in_plain_words, show_record

_LOOK_SECONDS = 5.0


class LogHandler(LogHandlerBase):
    """Writes to stderr, or stdout where Snakemake does."""

    def __post_init__(self) -> None:
        """Choose between this display and Snakemake's own lines."""
        settings = self.common_settings
        self._own: logging.Handler | None = None
        self._display: Display | None = None
        self._ended = threading.Event()
        stream = sys.stdout if settings.stdout else sys.stderr
        if settings.verbose or settings.dryrun or settings.debug_dag or settings.printshellcmds:
            self._own = _own_handler(self)
        else:
            self._display = Display(Console(file=stream, no_color=settings.nocolor or None))
            threading.Thread(target=self._tell_running, daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Show one record."""
        try:
            record = in_plain_words(record)
            if self._display is not None:
                show_record(record, self._display)
            elif self._own is not None:
                self._own.handle(record)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Say how it ended; Snakemake calls this more than once."""
        if self._display is not None and not self._ended.is_set():
            self._ended.set()
            self._display.close()
        super().close()

    def _tell_running(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            if self._display is not None:
                self._display.tell_running()

    @property
    def writes_to_stream(self) -> bool:
        """It does: there is no other output on the terminal."""
        return True

    @property
    def writes_to_file(self) -> bool:
        """The log file stays Snakemake's."""
        return False

    @property
    def has_filter(self) -> bool:
        """`--quiet` is obeyed by Snakemake's own filter."""
        return False

    @property
    def has_formatter(self) -> bool:
        """The display words everything."""
        return True

    @property
    def needs_rulegraph(self) -> bool:
        """Nothing is drawn of it."""
        return False


def _own_handler(plugin: LogHandlerBase) -> logging.Handler:
    """Return what Snakemake would write with."""
    from snakemake.logging import ColorizingTextHandler, DefaultFormatter

    settings = plugin.common_settings
    return ColorizingTextHandler(
        nocolor=settings.nocolor,
        stream=sys.stdout if settings.stdout else sys.stderr,
        formatter=DefaultFormatter(settings.quiet, settings.show_failed_logs),
    )
