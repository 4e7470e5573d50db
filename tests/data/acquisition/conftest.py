"""A server that breaks as told, and registries and studies whose sources it serves."""

import random
from collections.abc import Iterator

import pytest

from ademvl.data.acquisition.transfer import Transfers
from tests.data.acquisition.faulty_server import FaultyServer, running_server


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with running_server() as running:
        yield running


@pytest.fixture
def transfers() -> Transfers:
    """Transfers that retry at once and give up soon."""
    return Transfers(retries=3, first_delay_seconds=0.001)


def random_bytes(size: int, *, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)
