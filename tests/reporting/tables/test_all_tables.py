"""Protects the whole set of tables: all reported numbers and footnotes, honest gaps and verdicts.

The study is of the paper's scale; half of its runs are missing, one failed and one is stale.
"""

import csv
import io
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from ademvl.config.study import load_study
from ademvl.reporting.reported import ReportedNumbers, load_reported
from ademvl.reporting.results import read_results
from ademvl.reporting.tables.build import build_tables
from ademvl.reporting.tables.columns import SCIENCEQA_COLUMNS
from ademvl.reporting.tables.html import to_html
from ademvl.reporting.tables.judging import judge
from ademvl.reporting.tables.keys import ABLATIONS, TABLE_KEYS
from ademvl.reporting.tables.latex import to_latex
from ademvl.reporting.tables.layout import Cell, Table
from ademvl.reporting.tables.markdown import to_markdown
from ademvl.reporting.tables.tidy_csv import to_csv
from ademvl.runs.failures import noted_failure
from tests.conftest import PROJECT_ROOT
from tests.reporting.synthetic import SyntheticStudy

REPORTED_DIR = PROJECT_ROOT / "workflow" / "reported"
GOLDEN_DIR = Path(__file__).parent / "golden"
REPORTED_OF = {"accuracy": "scienceqa_test", "captions": "coco_caption_karpathy_test"}
ABLATION = "ablation_projection"


@pytest.fixture(scope="module")
def numbers() -> ReportedNumbers:
    return load_reported(REPORTED_DIR)


def _runs() -> dict[str, Any]:
    def reported(*references: tuple[str, str]) -> list[dict[str, str]]:
        return [{"table": table, "row": row} for table, row in references]

    paper = ("scienceqa_test", "ADEM-VL, LLaMA-7B")
    checkpoint = "ADEM-VL (released checkpoint, {}), LLaMA-7B"
    return {
        "adem": {
            "label": "ADEM-VL",
            "seeds": [0, 1, 2, 3, 4],
            "reported": reported(paper, (ABLATION, "phi: silu")),
        },
        "released": {
            "label": "released weights",
            "reported": reported(
                ("scienceqa_test", checkpoint.format("as printed by its authors")),
                ("scienceqa_test", checkpoint.format("evaluated by the report")),
            ),
        },
        "elu": {"label": "ELU", "reported": reported((ABLATION, "phi: elu"))},
        "relu": {"label": "ReLU", "reported": reported((ABLATION, "phi: relu"))},
        "softmax": {"label": "softmax", "reported": reported((ABLATION, "phi: softmax"))},
        "identity": {"label": "none", "reported": reported((ABLATION, "phi: identity"))},
        "captions": {
            "label": "ADEM-VL",
            "task": "coco_caption",
            "reported": reported(("coco_caption_karpathy_test", "ADEM-VL, LLaMA-13B")),
        },
        "captions_again": {"label": "again", "task": "coco_caption"},
    }


def _scores(percent: float) -> dict[str, tuple[int, int]]:
    sizes = {"NAT": 2252, "SOC": 889, "LAN": 1100, "TXT": 2046, "IMG": 2017, "NO": 1435}
    sizes |= {"G1-6": 2724, "G7-12": 1517, "AVG": 4241}
    return {column: (round(percent * n / 100), n) for column, n in sizes.items()}


@pytest.fixture
def partial(tmp_path: Path) -> SyntheticStudy:
    synthetic = SyntheticStudy(tmp_path, scale="paper", runs=_runs())
    for seed, percent in enumerate((93.5, 93.7, 93.9, 94.1, 94.3)):
        synthetic.finish_scienceqa("adem", _scores(percent), seed=seed)
    synthetic.finish_scienceqa("elu", _scores(92.0))
    synthetic.finish_scienceqa("relu", _scores(89.0))
    synthetic.raw["runs"]["relu"]["optimization"] = {"epochs": 3.0}  # stale
    folder = synthetic.run_dir("softmax")
    with pytest.raises(RuntimeError), noted_failure(folder, "train"):
        raise RuntimeError("loss is not finite in step 7\nand more")
    return synthetic


@pytest.fixture
def tables(partial: SyntheticStudy, numbers: ReportedNumbers) -> dict[str, Table]:
    return {table.key: table for table in build_tables(read_results(partial.study), numbers)}


def _lines(table: Table) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(to_csv(table))))


def _printed(tables: Mapping[str, Table]) -> Iterator[tuple[tuple[str, str, str], float | None]]:
    for key, table in tables.items():
        for line in _lines(table):
            if line["kind"] == "reported" and not line["column"].endswith("_change"):
                column = "avg" if line["column"] == "reported" else line["column"]
                name = line["key"].removeprefix("'")  # as spreadsheets would run "+ [cls] token"
                place = (REPORTED_OF.get(key, key), name, column)
                yield place, float(line["value"]) if line["value"] else None


def _expected(numbers: ReportedNumbers) -> dict[tuple[str, str, str], float | None]:
    return {
        (key, row.name, column): value
        for key, table in numbers.tables.items()
        for row in table.rows
        for column, value in zip(table.columns, row.values, strict=True)
    }


def test_every_reported_number_is_printed_as_it_is(
    tables: Mapping[str, Table], numbers: ReportedNumbers
) -> None:
    found: dict[tuple[str, str, str], set[float | None]] = {}
    for place, value in _printed(tables):
        found.setdefault(place, set()).add(value)
    expected = _expected(numbers)
    assert {place: found.get(place) for place in expected} == {
        place: {value} for place, value in expected.items()
    }
    assert len(expected) > 300


def test_printed_numbers_are_those_of_the_transcription(
    tables: Mapping[str, Table], shared_dir: Path
) -> None:
    path = shared_dir / "reported.yaml"
    if not path.is_file():
        pytest.skip(f"reference data not found: {path}")
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    transcribed: dict[str, list[float]] = {}
    for key, table in raw.items():
        if key not in ("sources", "discrepancies"):
            rows = table["rows"] if isinstance(table, dict) else table
            values = [v for row in rows for v in row.get("values", [row.get("avg")])]
            transcribed[key] = sorted(value for value in values if value is not None)
    printed: dict[str, dict[tuple[str, str, str], float]] = {}
    for place, value in _printed(tables):
        if value is not None and place[0] in transcribed:
            printed.setdefault(place[0], {})[place] = value
    assert {key: sorted(found.values()) for key, found in printed.items()} == transcribed


def test_replication_table_has_the_three_heads(tables: Mapping[str, Table]) -> None:
    lines = {(line["key"], line["column"]): line["value"] for line in _lines(tables["replication"])}
    assert lines["avg", "reported_paper_paper"] == "93.85"
    assert lines["avg", "reported_released_weights_readme"] == "94.01"
    assert lines["avg", "reported_released_weights_report"] == "93.61"
    assert lines["avg", "reported_retrained_colab"] == "85.81"
    assert lines["img", "reported_retrained_colab"] == "79.72"
    assert float(lines["avg", "measured_adem_paper"]) == pytest.approx(93.9, abs=0.02)
    assert lines["avg", "measured_released_report"] == ""


@pytest.mark.parametrize("render", [to_markdown, to_latex, to_html])
def test_every_discrepancy_has_its_footnote(
    tables: Mapping[str, Table], numbers: ReportedNumbers, render: Any
) -> None:
    key_of = {reported: key for key, reported in REPORTED_OF.items()}
    for entry in numbers.discrepancies:
        text = render(tables[key_of.get(entry.table, entry.table)])
        words = re.findall(r"[a-zA-Z0-9.,]{3,}", entry.source_says)
        assert all(word.strip(",") in text for word in words), entry


def test_settings_and_marks_of_reported_rows_are_printed(tables: Mapping[str, Table]) -> None:
    mme = to_markdown(tables["mme"])
    assert re.search(r"\| LaVIN +\| 7 +\|", mme)
    assert re.search(r"\| LLaMA-Adapter +\| – +\|", mme)
    assert "Reported only" in to_markdown(tables["image_understanding"])


def test_tables_of_the_runs_come_first(tables: Mapping[str, Table]) -> None:
    assert sorted(tables) == sorted(TABLE_KEYS)
    only = [table.is_reported_only for table in tables.values()]
    assert only == sorted(only)
    assert not tables["accuracy"].is_reported_only
    assert not tables[ABLATION].is_reported_only
    assert tables["ablation_components"].is_reported_only


def test_measured_row_stands_below_what_it_reproduces(tables: Mapping[str, Table]) -> None:
    (block,) = tables["accuracy"].blocks
    keys = [row.key for row in block.rows]
    assert keys[keys.index("ADEM-VL, LLaMA-7B") + 1] == "adem"
    assert keys.count("released") == 2
    assert keys.index("elu") < keys.index("Human")  # reproduces no row of this table


def test_verdict_is_that_of_the_rule(tables: Mapping[str, Table]) -> None:
    lines = {(line["key"], line["column"]): line for line in _lines(tables["accuracy"])}
    assert lines["adem", "avg"]["verdict"] == "reproduced"
    assert float(lines["adem", "avg"]["difference"]) == pytest.approx(0.05, abs=0.02)
    assert lines["adem", "lan"]["verdict"] == "not-reproduced"
    assert (lines["adem", "avg"]["n"], lines["adem", "avg"]["num_seeds"]) == ("4241", "5")
    elu = {line["column"]: line for line in _lines(tables[ABLATION]) if line["key"] == "phi: elu"}
    assert elu["measured"]["verdict"] == "reproduced"
    assert elu["measured_change"]["verdict"] == "cannot-tell"


def test_direction_of_a_change_needs_several_seeds_of_both_rows(
    partial: SyntheticStudy, numbers: ReportedNumbers
) -> None:
    def words() -> str:
        tables = build_tables(read_results(partial.study), numbers)
        (table,) = (table for table in tables if table.key == ABLATION)
        row = next(row for row in table.blocks[0].rows if row.key == "phi: elu")
        judgement = row.cells["measured_change"].judgement
        assert judgement is not None
        return judgement.words

    assert words() == "cannot tell: one seed"
    partial.raw["runs"]["elu"]["seeds"] = [0, 1]
    partial.finish_scienceqa("elu", _scores(92.1), seed=1)
    assert words() == "same direction"
    partial.raw["runs"]["adem"]["seeds"] = [0, 1]
    assert words() == "cannot tell: too few seeds"
    partial.raw["runs"]["adem"]["seeds"] = [0]
    assert words() == "cannot tell: one seed"


def test_order_of_rows_has_an_interval_and_open_changes_the_seeds_they_need(
    synthetic: SyntheticStudy, numbers: ReportedNumbers
) -> None:
    rows = {"silu": 93.9, "elu": 93.4, "relu": 90.0}
    synthetic.raw["runs"] = {
        phi: {"label": phi, "reported": [{"table": ABLATION, "row": f"phi: {phi}"}]} for phi in rows
    }

    def ablation() -> Table:
        tables = build_tables(read_results(synthetic.study), numbers)
        return next(table for table in tables if table.key == ABLATION)

    for seed in (0, 1, 2):
        for phi, percent in rows.items():
            synthetic.raw["runs"][phi]["seeds"] = list(range(seed + 1))
            synthetic.finish_scienceqa(phi, _scores(percent + 0.4 * (seed - 1)), seed=seed)
        order = next(note for note in ablation().notes if "Kendall" in note)
        if seed == 0:
            assert "= 1.00 over 3 rows (no interval, as the spread between seeds" in order
    assert "Kendall's tau-b = 1.00 [0.33, 1.00] over 3 rows (95 % of 10,000 draws" in order
    by_key = {
        row.key: row.cells["measured_change"].judgement
        for row in ablation().blocks[0].rows
        if "measured_change" in row.cells
    }
    assert by_key["phi: relu"].words == "same direction"
    assert re.fullmatch(
        r"cannot tell: may be none, at least \d+ seeds would show it", by_key["phi: elu"].words
    )


def test_verdict_allows_for_the_digits_that_were_printed(finished: SyntheticStudy) -> None:
    average = SCIENCEQA_COLUMNS[-1]
    run = next(run for run in read_results(finished.study).runs if run.name == "text_only")
    just_outside = 100 * run.seed_estimates("AVG")[0].ci_high + 0.03
    outcomes = []
    for decimals in (2, 1):
        judgement = judge(run, average, Cell(value=just_outside, decimals=decimals))
        outcomes.append(judgement.outcome if judgement else "")
    assert outcomes == ["cannot-tell", "reproduced"]


def test_released_weights_leave_nothing_open_to_other_seeds(
    partial: SyntheticStudy, numbers: ReportedNumbers
) -> None:
    partial.raw["runs"]["adem"]["seeds"] = [0, 1, 2]
    partial.finish_scienceqa("released", _scores(92.0))
    outcomes = []
    for adapter in ({}, {"adapter": "released", "released_from": "somewhere"}):
        partial.raw["runs"]["released"].update(adapter)
        partial.run_dir("released")
        table = build_tables(read_results(partial.study), numbers)[0]
        lines = [
            line for line in _lines(table) if (line["key"], line["column"]) == ("released", "avg")
        ]
        outcomes.append({line["verdict"] for line in lines})
    assert outcomes == [{"cannot-tell"}, {"not-reproduced"}]


def test_missing_failed_and_stale_runs_say_so(tables: Mapping[str, Table]) -> None:
    lines = {line["key"]: line for line in _lines(tables[ABLATION]) if line["column"] == "measured"}
    states = {key: line["state"] for key, line in lines.items()}
    assert states == {
        "phi: identity": "not run",
        "phi: softmax": "failed",
        "phi: relu": "stale",
        "phi: elu": "finished",
        "phi: silu": "finished",
        "phi: silu_positive, formula: silu(x) - min(x)": "",
    }
    assert {line["value"] for key, line in lines.items() if states[key] not in ("finished",)} == {
        ""
    }
    text = to_markdown(tables[ABLATION])
    assert "failed (ademvl train): loss is not finite in step 7" in text
    assert "and more" not in text
    assert "made with other settings" in text
    (line,) = (line for line in text.splitlines() if "positive" in line)
    assert "not run" in line
    for key in ("replication", "captions"):
        assert "not run" in to_markdown(tables[key])


def test_scores_of_other_items_get_no_verdict(
    partial: SyntheticStudy, numbers: ReportedNumbers
) -> None:
    for seed in range(3):
        partial.finish_scienceqa("adem", {"AVG": (94, 100)}, seed=seed)
    for table in build_tables(read_results(partial.study), numbers):
        verdicts = [line for line in _lines(table) if line["verdict"] in ("reproduced",)]
        assert not [line for line in verdicts if "adem" in (line["key"], line["run"])]
    text = to_markdown(build_tables(read_results(partial.study), numbers)[0])
    assert "No verdict: scored on 100 items, the reported numbers are for 4,241." in text


def test_scores_of_another_split_get_no_verdict(
    partial: SyntheticStudy, numbers: ReportedNumbers
) -> None:
    partial.raw["runs"]["adem"]["evaluation"] = {"split": "val"}
    for seed in range(3):
        partial.finish_scienceqa("adem", _scores(93.9), seed=seed)
    for table in build_tables(read_results(partial.study), numbers):
        verdicts = [line for line in _lines(table) if line["verdict"] in ("reproduced",)]
        assert not [line for line in verdicts if "adem" in (line["key"], line["run"])]
    text = to_markdown(build_tables(read_results(partial.study), numbers)[0])
    assert "No verdict: scored on the split val, the reported numbers are for test." in text


def test_numbers_of_the_val_split_are_for_runs_on_it(numbers: ReportedNumbers) -> None:
    table = numbers.tables["coco_caption_karpathy_test"]
    splits = {row.name: row.split or table.split for row in table.rows}
    assert splits.pop("ADEM-VL (released checkpoint), LLaMA-7B") == "val"
    assert set(splits.values()) == {"test"}


def test_another_scale_has_columns_of_its_own_and_no_verdict(
    partial: SyntheticStudy, numbers: ReportedNumbers
) -> None:
    partial.raw["scale"] = "mini"
    judged = set()
    for table in build_tables(read_results(partial.study), numbers):
        scales: dict[tuple[str, str], set[tuple[str, str]]] = {}
        for line in _lines(table):
            place = (line["block"], line["column"])
            scales.setdefault(place, set()).add((line["kind"], line["scale"]))
            assert line["difference"] == ""
            judged.add(line["verdict"])
        for found in scales.values():
            assert found in ({("reported", "paper")}, {("measured", "mini")})
    assert judged == {"", "cannot-tell"}


def test_columns_in_which_nothing_stands_are_left_out(
    tmp_path: Path, numbers: ReportedNumbers
) -> None:
    study = SyntheticStudy(tmp_path, scale="mini", runs={"one": {}})

    def columns() -> list[str]:
        tables = build_tables(read_results(study.study), numbers)
        (table,) = (each for each in tables if each.key == "accuracy")
        return [column.key for column in table.measured_part.blocks[0].columns]

    assert {"no", "avg"} < {*columns()}  # not run yet, which is said in each
    study.finish_scienceqa("one", {"NAT": (3, 5), "IMG": (6, 10), "AVG": (9, 15)})
    assert columns() == ["nat", "img", "avg"]


def test_nothing_run_gives_all_tables(tmp_path: Path, numbers: ReportedNumbers) -> None:
    study = SyntheticStudy(tmp_path, scale="paper", runs=_runs()).study
    tables = build_tables(read_results(study), numbers)
    assert len(tables) == len(TABLE_KEYS)
    for table in tables:
        assert {line["value"] for line in _lines(table) if line["kind"] == "measured"} <= {""}


def test_study_of_one_task_leaves_the_others_reported(
    tmp_path: Path, numbers: ReportedNumbers
) -> None:
    runs = {"captions": {"task": "coco_caption"}}
    tables = build_tables(read_results(SyntheticStudy(tmp_path, runs=runs).study), numbers)
    assert [table.key for table in tables if not table.is_reported_only] == ["captions", "cost"]


def test_order_of_rows_is_compared(partial: SyntheticStudy, numbers: ReportedNumbers) -> None:
    partial.finish_scienceqa("identity", _scores(91.0))
    tables = {table.key: table for table in build_tables(read_results(partial.study), numbers)}
    # reported: identity 92.16 < ELU 92.45 < SiLU 93.85, measured in the same order
    assert "tau-b = 1.00 \\[0.33, 1.00\\] over 3 rows" in to_markdown(tables[ABLATION])


@pytest.mark.parametrize("suffix", ["md", "tex"])
@pytest.mark.parametrize("key", ["replication", ABLATION, "replication_experiments"])
def test_rendered_table_is_the_golden_text(
    tables: Mapping[str, Table], key: str, suffix: str, pytestconfig: pytest.Config
) -> None:
    text = {"md": to_markdown, "tex": to_latex}[suffix](tables[key])
    golden = GOLDEN_DIR / f"partial_{key}.{suffix}"
    if pytestconfig.getoption("--update-golden"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


def test_latex_compiles_and_fits_the_page(
    partial: SyntheticStudy, numbers: ReportedNumbers, tmp_path: Path
) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed")
    latin = "".join(map(chr, range(0xA1, 0x180)))
    greek = "".join(map(chr, (*range(0x391, 0x3A2), *range(0x3A3, 0x3CA))))
    for number, label in enumerate(["γ = 0.3 → 0.5", "中文 Я e\u0301", latin, greek, *"many" * 9]):
        partial.raw["runs"][f"run_{number}"] = {"label": f"one of many, {number} {label}"}
        partial.finish_scienceqa(f"run_{number}", _scores(90.0))
    tables = {table.key: table for table in build_tables(read_results(partial.study), numbers)}
    names = []
    for key, table in tables.items():
        (tmp_path / f"{key}.tex").write_text(to_latex(table), encoding="utf-8")
        names.append(f"\\input{{{key}.tex}}\\clearpage")
    document = (
        "\\documentclass[a4paper]{article}\\usepackage[margin=2cm]{geometry}\n"
        "\\usepackage{booktabs,graphicx}\\begin{document}\n" + "\n".join(names)
    )
    (tmp_path / "all.tex").write_text(document + "\n\\end{document}\n", encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
        timeout=120,
    )
    log = done.stdout.decode("latin-1")
    assert done.returncode == 0, log[-3000:]
    assert (tmp_path / "all.pdf").stat().st_size > 50_000
    assert "Overfull" not in log
    assert "too large" not in log


def test_every_ablation_names_the_row_that_changes_are_from(numbers: ReportedNumbers) -> None:
    for key in (*ABLATIONS, "replication_experiments"):
        assert numbers.tables[key].base


def test_study_refers_to_rows_that_exist(partial: SyntheticStudy) -> None:
    assert load_study(partial.raw).reported("elu")[0].row == "phi: elu"
