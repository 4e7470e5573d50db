"""Protects the logs beside metrics.csv: the same rows, no part in results, no training ended."""

import struct
from collections.abc import Callable, Iterator
from dataclasses import astuple
from pathlib import Path

import pytest

from ademvl.cli import main
from ademvl.runs.identity import training_identity
from ademvl.runs.metrics import COLUMNS, MetricsRow, read_metrics
from ademvl.training import live_logs
from ademvl.training.live_logs import LiveLogs
from ademvl.training.run import train_run
from tests.tiny import make_run, write_run

Train = Callable[..., Path]


@pytest.fixture
def train(tmp_path: Path) -> Train:
    """Train a tiny run that logs to what is named."""

    def run(*log_to: str) -> Path:
        settings = make_run(tmp_path / "base", log_to=log_to)
        run_dir = write_run(tmp_path / "-".join(["run", *log_to]), settings)
        assert train_run(run_dir, progress=False) == 0
        return run_dir

    return run


def scalars(folder: Path) -> dict[int, tuple[float, ...]]:
    """Read what TensorBoard shows: the numbers of each step in the order of metrics.csv."""
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="the extra `tensorboard` is missing",
    ).EventAccumulator(str(folder))
    accumulator.Reload()
    found: dict[int, list[float]] = {}
    for name in COLUMNS[1:]:
        for event in accumulator.Scalars(name):
            found.setdefault(event.step, []).append(event.value)
    return {step: tuple(values) for step, values in found.items()}


def test_tensorboard_has_the_rows_and_no_part_in_the_result(train: Train) -> None:
    pytest.importorskip("tensorboard", reason="the extra `tensorboard` is missing")
    plain, logged = train(), train("tensorboard")
    rows = {row.step: astuple(row)[1:] for row in read_metrics(logged / "metrics.csv")}
    found = scalars(logged / "tensorboard")
    assert found.keys() == rows.keys()
    assert all(found[step] == pytest.approx(rows[step], rel=1e-6) for step in rows)  # fp32 there
    weights = [(run / "adapter/adapter.safetensors").read_bytes() for run in (plain, logged)]
    assert weights[0] == weights[1]
    assert train_run(plain, progress=False) == 0


def test_logs_are_no_part_of_the_identity(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, log_to=log_to) for log_to in ((), ("tensorboard", "wandb"))]
    assert training_identity(runs[0]) == training_identity(runs[1])


def row(step: int, loss: float) -> MetricsRow:
    return MetricsRow(step, step / 10, 0.1, loss, 1.0, 0, 0, 10.0, 100.0, 50.0)


def test_steps_that_are_done_again_replace_what_was_logged(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra `tensorboard` is missing")
    run = make_run(tmp_path, log_to=("tensorboard",))
    for first_step, rows in ((1, [(2, 3.0), (4, 2.0), (6, 1.0)]), (3, [(4, 2.5), (6, 1.5)])):
        logs = LiveLogs(run, tmp_path, first_step=first_step)
        for step, loss in rows:
            logs.add(row(step, loss))
        logs.close()
    found = scalars(tmp_path / "tensorboard")
    place = COLUMNS.index("loss") - 1
    assert {step: values[place] for step, values in found.items()} == {2: 3.0, 4: 2.5, 6: 1.5}


def test_log_that_fails_is_told_and_training_ends_well(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("tensorboard", reason="the extra `tensorboard` is missing")
    run_dir = write_run(tmp_path / "run", make_run(tmp_path / "base", log_to=("tensorboard",)))
    (run_dir / "tensorboard").write_text("in the way")
    assert train_run(run_dir, progress=False) == 0
    assert caplog.text.count("tensorboard takes no more of this training") == 1
    assert (run_dir / "adapter/adapter.json").is_file()


def test_missing_package_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(live_logs, "find_spec", lambda name: None)
    run_dir = write_run(tmp_path / "run", make_run(tmp_path / "base", log_to=("wandb",)))
    assert main(["train", str(run_dir)]) == 2
    assert "pip install 'ademvl[wandb]'" in capsys.readouterr().err
    assert not (run_dir / "metrics.csv").exists()


@pytest.mark.slow
def test_wandb_keeps_the_rows_offline(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="the extra `wandb` is missing")
    monkeypatch.setenv("WANDB_MODE", "offline")
    run_dir = train("wandb")
    (file,) = run_dir.glob("wandb/offline-run-*/*.wandb")
    rows = read_metrics(run_dir / "metrics.csv")
    found = [dict(history) for history in _history(file)]
    assert [int(float(each["optimiser_step"])) for each in found] == [row.step for row in rows]
    assert [float(each["loss"]) for each in found] == [row.loss for row in rows]


def _history(file: Path) -> list[list[tuple[str, str]]]:
    from wandb.proto.wandb_internal_pb2 import Record

    found = []
    for content in _log_records(file.read_bytes()):
        record = Record()
        record.ParseFromString(content)
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            found.append([(i.key or "/".join(i.nested_key), i.value_json) for i in items])
    return found


def _log_records(data: bytes) -> Iterator[bytes]:
    """Yield the records of a log in LevelDB's format, in blocks of 32 KiB, behind 7 bytes."""
    place, parts = 7, b""
    while place + 7 <= len(data):
        if (room := 32768 - place % 32768) < 7:
            place += room
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""
