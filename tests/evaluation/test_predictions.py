"""Protects prediction files: resumed after any kill, and never reused for another adapter."""

import contextlib
import json

import pytest

from ademvl.errors import DataError, DiskFullError, ToolError
from ademvl.evaluation import predictions
from ademvl.evaluation.predictions import PredictionLog

HEADER = {"adapter_sha256": "a1", "settings": {"max_seq_len": 512}}
ITEM_IDS = [str(10 * number) for number in range(7)]
BATCHES = [[5, 1, 3], [0, 6, 2], [4]]


class KilledError(Exception):
    pass


class Predictor:
    """Predicts each item's number squared, and counts; dies at a chosen item."""

    def __init__(self, dies_at=None):
        self.batches = []
        self.dies_at = dies_at

    def __call__(self, items):
        if self.dies_at is not None and self.dies_at in items:
            raise KilledError
        self.batches.append(list(items))
        return [{"id": ITEM_IDS[item], "text": f"é{item**2}"} for item in items]


def _log(folder, header=HEADER):
    return PredictionLog(folder, "scienceqa", header=header, item_ids=ITEM_IDS)


def _fill(log, predict, *, batches, ahead=False):
    with log.filling(batches, ahead=ahead) as filling:
        for items in filling.missing:
            filling.append(predict(items))
    return filling.rows()


def _undisturbed(folder):
    return _fill(_log(folder), Predictor(), batches=BATCHES)


def test_lines_stand_in_data_set_order_with_the_id_first(tmp_path):
    rows = _undisturbed(tmp_path)
    lines = (tmp_path / "scienceqa.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == rows
    assert lines[2] == '{"id": "20", "text": "é4"}'
    assert not (tmp_path / "scienceqa.partial.jsonl").exists()


def test_complete_file_is_read_back(tmp_path):
    rows = _undisturbed(tmp_path)
    assert _log(tmp_path).read_complete() == rows


@pytest.mark.parametrize(
    "header", [{**HEADER, "adapter_sha256": "b2"}, {**HEADER, "settings": {"max_seq_len": 500}}]
)
def test_stale_predictions_are_not_reused(tmp_path, header):
    _undisturbed(tmp_path)
    stale = _log(tmp_path, header)
    assert stale.read_complete() is None
    predictor = Predictor()
    _fill(stale, predictor, batches=BATCHES)
    assert predictor.batches == BATCHES


def test_stale_partial_lines_are_not_reused(tmp_path):
    with pytest.raises(KilledError):
        _fill(_log(tmp_path), Predictor(dies_at=6), batches=BATCHES)
    predictor = Predictor()
    _fill(_log(tmp_path, {"other": 1}), predictor, batches=BATCHES)
    assert predictor.batches == BATCHES


def test_resume_starts_where_the_last_whole_batch_ended(tmp_path):
    with pytest.raises(KilledError):
        _fill(_log(tmp_path), Predictor(dies_at=6), batches=BATCHES)
    assert _log(tmp_path).read_complete() is None
    predictor = Predictor()
    rows = _fill(_log(tmp_path), predictor, batches=BATCHES)
    assert predictor.batches == BATCHES[1:]
    assert rows == _undisturbed(tmp_path / "undisturbed")


@pytest.mark.parametrize("lost_bytes", [1, 5, 30])
def test_torn_last_line_is_dropped_with_its_batch(tmp_path, lost_bytes):
    with pytest.raises(KilledError):
        _fill(_log(tmp_path), Predictor(dies_at=4), batches=BATCHES)
    partial = tmp_path / "scienceqa.partial.jsonl"
    partial.write_bytes(partial.read_bytes()[:-lost_bytes])
    predictor = Predictor()
    _fill(_log(tmp_path), predictor, batches=BATCHES)
    _undisturbed(tmp_path / "undisturbed")
    assert predictor.batches[0] == BATCHES[1]
    undisturbed = tmp_path / "undisturbed" / "scienceqa.jsonl"
    assert (tmp_path / "scienceqa.jsonl").read_bytes() == undisturbed.read_bytes()


@pytest.mark.parametrize("batches", [[[0, 1, 2, 3, 4, 5, 6]], [[item] for item in range(7)]])
def test_file_does_not_depend_on_the_batches(tmp_path, batches):
    _undisturbed(tmp_path / "a")
    _fill(_log(tmp_path / "b"), Predictor(), batches=batches)
    first, second = (tmp_path / name / "scienceqa.jsonl" for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_damaged_complete_file_is_predicted_again(tmp_path):
    _undisturbed(tmp_path)
    path = tmp_path / "scienceqa.jsonl"
    path.write_bytes(path.read_bytes() + b'{"id": "70"}\n')
    assert _log(tmp_path).read_complete() is None


def test_second_writer_is_refused(tmp_path):
    def predict(items):
        with pytest.raises(ToolError, match="another process"):
            _fill(_log(tmp_path), Predictor(), batches=BATCHES)
        return Predictor()(items)

    _fill(_log(tmp_path), predict, batches=BATCHES)


def test_full_disk_names_the_file_and_loses_no_whole_batch(small_disk):
    undisturbed = _undisturbed(small_disk / "apart")
    ballast = small_disk / "ballast"

    def filling(items):
        if 0 in items:  # the second batch
            with contextlib.suppress(OSError):
                ballast.write_bytes(bytes(4 << 20))
        rows = Predictor()(items)
        return [{**row, "text": row["text"].ljust(9000)} for row in rows]

    with pytest.raises(DiskFullError, match=r"scienceqa\.partial\.jsonl: the disk is full"):
        _fill(_log(small_disk), filling, batches=BATCHES)
    ballast.unlink()
    predictor = Predictor()
    rows = _fill(_log(small_disk), predictor, batches=BATCHES)
    assert predictor.batches == BATCHES[1:]
    assert [row["id"] for row in rows] == [row["id"] for row in undisturbed]


def test_nothing_is_left_where_the_first_rows_fail(tmp_path):
    with pytest.raises(KilledError):
        _fill(_log(tmp_path), Predictor(dies_at=5), batches=BATCHES)
    assert not list(tmp_path.glob("*.jsonl"))


def test_what_was_kept_is_told(tmp_path):
    with pytest.raises(KilledError):
        _fill(_log(tmp_path), Predictor(dies_at=6), batches=BATCHES)
    done = []
    with _log(tmp_path).filling(BATCHES) as filling:
        done.append(filling.num_found)
        for items in filling.missing:
            filling.append(Predictor()(items))
            done.append(filling.num_found)
    assert done == [3, 6, 7]


def test_rows_of_other_items_are_refused(tmp_path):
    with (
        pytest.raises(ValueError, match="one row for each item of the batch, in order"),
        _log(tmp_path).filling(BATCHES) as filling,
    ):
        filling.append(Predictor()([1, 3, 5]))


def test_lines_of_other_batches_are_kept_as_far_as_they_are_the_same(tmp_path):
    with pytest.raises(KilledError):
        _fill(_log(tmp_path), Predictor(dies_at=4), batches=BATCHES)
    predictor = Predictor()
    others = [[5, 1, 3], [0, 4], [6, 2]]
    rows = _fill(_log(tmp_path), predictor, batches=others)
    assert predictor.batches == others[1:]
    assert rows == _undisturbed(tmp_path / "undisturbed")


def _edit(path, old, new):
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("scienceqa.jsonl", "é4", "é5"),
        ("scienceqa.header.json", '"seal": "', '"seal": "0'),
        ("scienceqa.header.json", '"seal"', '"other"'),
    ],
)
def test_predictions_changed_by_hand_are_made_again(tmp_path, name, old, new):
    rows = _undisturbed(tmp_path)
    _edit(tmp_path / name, old, new)
    assert _log(tmp_path).read_complete() is None
    assert _undisturbed(tmp_path) == rows


def test_predictions_under_a_header_that_was_made_to_fit_are_made_again(tmp_path):
    _undisturbed(tmp_path)
    _edit(tmp_path / "scienceqa.header.json", '"a1"', '"b2"')
    assert _log(tmp_path, {**HEADER, "adapter_sha256": "b2"}).read_complete() is None


def test_kill_between_seal_and_file_predicts_nothing_again(tmp_path, monkeypatch):
    def dying(path, content):
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(predictions, "write_bytes", dying)
        with pytest.raises(KilledError):
            _undisturbed(tmp_path)
    assert _log(tmp_path).read_complete() is None
    predictor = Predictor()
    rows = _fill(_log(tmp_path), predictor, batches=BATCHES)
    assert predictor.batches == []
    assert _log(tmp_path).read_complete() == rows


@pytest.mark.parametrize("content", ["5", "[]", "null", '"seal"'])
def test_header_that_is_no_object_is_refused_and_made_again(tmp_path, content):
    rows = _undisturbed(tmp_path)
    (tmp_path / "scienceqa.header.json").write_text(content)
    with pytest.raises(DataError, match=r"scienceqa\.header\.json: expected an object"):
        predictions.is_sealed(tmp_path / "scienceqa.jsonl")
    assert _log(tmp_path).read_complete() is None
    assert _undisturbed(tmp_path) == rows


def test_rows_made_ahead_complete_the_file_without_predicting(tmp_path):
    expected = _undisturbed(tmp_path / "undisturbed")
    assert _fill(_log(tmp_path), Predictor(), batches=BATCHES, ahead=True) == expected
    assert _log(tmp_path).read_complete() is None
    assert _fill(_log(tmp_path), None, batches=BATCHES) == expected
    for name in ("scienceqa.jsonl", "scienceqa.header.json"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()
    assert not (tmp_path / "scienceqa.partial.jsonl").exists()


def test_rows_made_ahead_and_changed_by_hand_are_predicted_again(tmp_path):
    expected = _fill(_log(tmp_path), Predictor(), batches=BATCHES, ahead=True)
    path = tmp_path / "scienceqa.partial.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace("é4", "é5"), encoding="utf-8")
    predictor = Predictor()
    assert _fill(_log(tmp_path), predictor, batches=BATCHES) == expected
    assert predictor.batches == BATCHES


def test_rows_made_ahead_survive_a_kill_of_what_completes_them(tmp_path, monkeypatch):
    expected = _fill(_log(tmp_path), Predictor(), batches=BATCHES, ahead=True)
    with monkeypatch.context() as patch:
        patch.setattr(predictions, "write_bytes", None)
        with pytest.raises(TypeError):
            _fill(_log(tmp_path), None, batches=BATCHES)
    assert _fill(_log(tmp_path), None, batches=BATCHES) == expected
