"""How far a study is: data sets, runs and seeds, and whether a workflow is at work on it."""

from collections.abc import Iterator
from pathlib import Path

from ademvl.config.run import TRAINED, RunSettings
from ademvl.config.study import Study
from ademvl.reporting.results import read_results
from ademvl.reporting.seed_result import SeedResult
from ademvl.runs.chosen_rate import (
    candidate_dir,
    choice_file,
    choice_of,
    choosing_run,
    is_choice_for,
)
from ademvl.runs.run_files import RunFiles
from ademvl.storage.locks import try_lock_file
from ademvl.workflow.terminal.job_logs import read_training_state
from ademvl.workflow.terminal.jobs import duration

WORKFLOW_LOCK = ".workflow.lock"


def describe_status(study: Study) -> str:
    """Return a line for each data set, choice of a learning rate, run and seed.

    Raises:
        AdemvlError: a file of results is damaged.
    """
    seeds = [seed for run in read_results(study, refuse_doubtful=False).runs for seed in run.seeds]
    finished = sum(seed.state == "finished" for seed in seeds)
    at_work = is_at_work(study)
    now = "a workflow is at work on it" if at_work else "no workflow is at work on it"
    lines = [f"{study.name}: {finished} of {len(seeds)} runs and seeds finished; {now}"]
    lines += _data_lines(study)
    width = max(len(seed.settings.name) for seed in seeds)
    shown: set[str] = set()
    for seed in seeds:
        run = seed.settings
        if run.name not in shown and choosing_run(run) == run.name:
            lines.append(
                f"  {run.name:{width}}  rate    {_rate_state(study, run, at_work=at_work)}"
            )
        shown.add(run.name)
        name = f"{run.name:{width}}  seed {run.seed}"
        lines.append(f"  {name}  {_state(study, seed, at_work=at_work)}")
    page = study.results_dir / "report" / "index.html"
    lines += [f"page: {page}"] if page.is_file() else []
    return "\n".join(lines) + "\n"


def is_at_work(study: Study) -> bool:
    """Whether a workflow has this study's lock."""
    path = study.results_dir / WORKFLOW_LOCK
    if not path.is_file():
        return False
    lock = try_lock_file(path, create=False)
    if lock is not None:
        lock.release()
    return lock is None


def _data_lines(study: Study) -> Iterator[str]:
    for name in study.settings.datasets:
        manifest = Path(study.settings.shared_dir) / "data" / name / "manifest.json"
        yield f"  data set {name}: {'made' if manifest.is_file() else 'not made yet'}"


def _state(study: Study, seed: SeedResult, *, at_work: bool) -> str:
    if seed.failure:
        return f"failed in {seed.failure.step}: {seed.failure.message}"
    if seed.state == "stale":
        return f"stale: {seed.reason or 'of other settings, or of another version'}"
    if seed.state != "unfinished":
        return seed.state
    if RunFiles(seed.run_dir).adapter_json.is_file():
        return "trained, not evaluated yet"
    if seed.settings.adapter != TRAINED:
        return "not evaluated yet"
    run = seed.settings
    return _training(study, f"train_run/{run.name}_seed{run.seed}", at_work=at_work)


def _rate_state(study: Study, run: RunSettings, *, at_work: bool) -> str:
    """Say how far the choice of a run's learning rate is."""
    grid, choice = run.optimization.lr_grid, choice_of(study.results_dir, run)
    if choice is not None and is_choice_for(run, choice):
        return f"{choice.base_lr:g}, the best of {len(choice.grid)} on {choice.split}"
    folder = choice_file(study.results_dir, run.name).with_suffix("")
    begun = sum(candidate_dir(folder, base_lr).is_dir() for base_lr in grid)
    if not begun:
        return "not chosen yet"
    training = _training(study, f"choose_rate/{run.name}", at_work=at_work)
    beyond = " or beyond" if begun == len(grid) and run.optimization.lr_grid_growth else ""
    return f"rate {begun} of {len(grid)}{beyond} {training}"


def _training(study: Study, job: str, *, at_work: bool) -> str:
    """Say how far a training is, by the log of its job."""
    training = read_training_state([str(study.results_dir / "logs" / f"{job}.log")])
    if training is None:
        return "in training" if at_work else "begun"
    step = f"step {training.step} of {training.total_steps}, loss {training.loss}"
    left = f", {duration(training.seconds_left)} left" if at_work else ""
    return f"{'in training' if at_work else 'begun'}: {step}{left}"
