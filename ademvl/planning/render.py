"""Renders the plan of a study as text for people."""

from collections.abc import Iterator, Sequence
from dataclasses import fields
from textwrap import wrap

from ademvl.planning.disk import DiskUse
from ademvl.planning.fit import UNCERTAINTY, fit_of
from ademvl.planning.plans import RunPlan, StudyPlan
from ademvl.planning.schedule import UTILIZATION_RANGE, Seconds
from ademvl.storage.byte_sizes import format_bytes, gib
from ademvl.text_table import aligned

_MIB, _WIDTH = 1 << 20, 100
_UNITS = ((1.0, "s"), (60.0, "min"), (3600.0, "h"), (86400.0, "d"))
_HEADERS = (
    *("run", "seeds", "trained", "frozen", "memory", "steps"),
    *("TFLOP/item", "PFLOP", "time", "GPU hours"),
)


def render_plan(plan: StudyPlan) -> str:
    """Return the plan as tables and notes."""
    lines = [_headline(plan), "", *aligned(list(_rows(plan))), ""]
    for names, text in _memory_of_runs(plan).items():
        lines += [f"memory of {names}:", *(f"  {line}" for line in text)]
    lines += ["", *_disk_lines(plan)]
    lines += ["", "assumed, and not checked:", *_bullets(_assumptions(plan))]
    for name, reason in plan.unknown.items():
        lines.append(f"not planned: {name}: {reason}")
    return "\n".join(lines) + "\n"


def _headline(plan: StudyPlan) -> str:
    target = plan.target
    jobs = sum(run.seeds for run in plan.runs)
    runs = f"{plan.study}: {len(plan.runs)} runs, {jobs} with all seeds"
    if tried := sum(choice.seeds for choice in plan.choices):
        runs += f", and {tried} trainings to choose rates"
    if all(run.device == "cpu" for run in plan.runs) and not any(run.rate for run in plan.runs):
        return f"{runs}; on the CPU, where --probe predicts time"
    if target.gpu is None and any(run.rate for run in plan.runs):
        return f"{runs}; time by a probe on this machine"
    if target.gpu is None:
        return f"{runs}; no GPU here that the table knows: --gpu NAME or --probe predicts time"
    gpus = f"{target.count} x {target.gpu.name}"
    return f"{runs}; on {gpus} at {target.utilization:.0%} of its matrix rate"


def _rows(plan: StudyPlan) -> Iterator[Sequence[str]]:
    """Give the cells of the table; numbers of a run are those of one seed, but for GPU hours."""
    yield _HEADERS
    for run in plan.runs:
        yield _row(run, run.name, str(run.seeds))
    for choice in plan.choices:
        yield _row(choice, f"rate of {choice.name}", f"{choice.seeds} rates")
    total = f"{plan.flops / 1e15:,.4g}"
    hours = _hours(plan.gpu_hours)
    name = "all seeds and rates" if plan.choices else "all seeds"
    yield (name, "", "", "", "", "", "", total, _time(plan.wall), hours)


def _row(run: RunPlan, name: str, seeds: str) -> Sequence[str]:
    wall = run.seconds.wall if run.seconds else None
    return (
        name,
        seeds,
        f"{run.num_trained:,}" if run.trains else "-",
        _count(run.frozen),
        gib(max(run.memory.total if run.trains else 0, run.evaluation_memory)),
        f"{run.flops.optimizer_steps:,}" if run.trains else "-",
        f"{run.flops.training_per_item / 1e12:.4g}" if run.trains else "-",
        f"{run.flops.total / 1e15:,.4g}",
        _time(wall),
        _hours(run.gpu_hours),
    )


def _memory_of_runs(plan: StudyPlan) -> dict[str, tuple[str, ...]]:
    """Describe the memory of each run; runs that take the same stand together."""
    names: dict[tuple[str, ...], list[str]] = {}
    for run in plan.runs:
        names.setdefault(tuple(_memory_lines(plan, run)), []).append(run.name)
    return {", ".join(runs): text for text, runs in names.items()}


def _memory_lines(plan: StudyPlan, run: RunPlan) -> Iterator[str]:
    place = "a GPU" if run.device == "cuda" else "the CPU"
    if run.trains:
        batch = run.batch
        fits = ""
        if plan.target.gpu is not None and run.device == "cuda":
            fits = f"; {_fits(run.memory.total, plan.target.gpu.memory_bytes)}"
        yield (
            f"training    {gib(run.memory.total)} of {place}, {batch.rows} rows of {batch.width} "
            f"tokens at once{fits}"
        )
        parts = (
            f"{part.name.replace('_', ' ')} {gib(getattr(run.memory, part.name))}"
            for part in fields(run.memory)
            if getattr(run.memory, part.name) >= _MIB
        )
        yield from (f"            {line}" for line in wrap(", ".join(parts), _WIDTH - 14))
        how = "without" if run.is_checkpointed else "with"
        yield f"            {how} gradient checkpointing {gib(run.other_checkpointing)}"
    if run.alternatives:
        yield "            would fit with"
        yield from (f"            - {each}" for each in run.alternatives)
    yield f"evaluation  {gib(run.evaluation_memory)}, {run.evaluation_rows} items at once"


def _fits(needed: int, there: int) -> str:
    fit = fit_of(needed, there)
    return f"{fit if fit == 'fits' else fit.upper()} into {gib(there)}"


def _disk_lines(plan: StudyPlan) -> Iterator[str]:
    unknown = sum(not part.is_known for part in plan.disk)
    more = f", and {unknown} of unknown size" if unknown else ""
    yield f"disk: {format_bytes(plan.disk_bytes)}{more}"
    width = max((len(part.what) for part in plan.disk), default=0)
    for part in plan.disk:
        about, size = _about(part)
        yield f"  {part.what:{width}}  {about:6}{size:>9}  {part.place}"


def _about(part: DiskUse) -> tuple[str, str]:
    if not part.is_known:
        return ("over", format_bytes(part.bytes)) if part.bytes else ("", "unknown")
    return "" if part.is_exact else "about", format_bytes(part.bytes)


def _bullets(texts: Iterator[str]) -> Iterator[str]:
    for text in texts:
        yield from wrap(text, _WIDTH, initial_indent="  - ", subsequent_indent="    ")


def _assumptions(plan: StudyPlan) -> Iterator[str]:
    yield f"memory is right within {UNCERTAINTY:.0%}: checked on the CPU, not on GPUs"
    for rate in {run.rate for run in plan.runs if run.rate}:
        few = f" with {' and '.join(map(str, rate.layers))} layers"
        how = "" if len(rate.layers) == 1 else few
        yield (
            f"time by a probe on {rate.device}: {rate.passes} passes{how}, "
            f"{rate.flops_per_second / 1e12:.3g} TFLOP/s; loading weights, decoding images and "
            "evaluation at another rate are left out"
        )
    if plan.target.gpu is not None and not any(run.rate for run in plan.runs):
        low, high = UTILIZATION_RANGE
        yield (
            f"time: GPUs reach {low:.0%} to {high:.0%} of their rate with such models; loading "
            "weights, decoding images and talk between GPUs are left out"
        )
    yield from plan.assumptions


def _time(seconds: Seconds | None) -> str:
    """Render a time with its range in the unit that suits it."""
    if seconds is None:
        return "?"
    units = [(size, name) for size, name in _UNITS if seconds.expected >= size]
    size, name = units[-1] if units else _UNITS[0]
    return f"{_range(seconds.times(1 / size))} {name}"


def _hours(hours: Seconds | None) -> str:
    return "-" if hours is None else _range(hours)


def _range(number: Seconds) -> str:
    return f"{_short(number.expected)} ({_short(number.low)}-{_short(number.high)})"


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.2g}"


def _count(number: int) -> str:
    return f"{number / 1e9:.2f} B" if number >= 1e9 else f"{number / 1e6:.2f} M"
