"""The model card of an adapter that is passed on: what it is, what was measured, how to load it."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from ademvl import __version__
from ademvl.config.run import RunSettings
from ademvl.config.settings_files import STUDY_FILE, run_to_plain
from ademvl.config.study import Study, load_study
from ademvl.config.task_facts import RequestKind
from ademvl.config.tasks import facts_of
from ademvl.data.acquisition.registry import load_registry
from ademvl.errors import SettingsError
from ademvl.reporting.results import read_results
from ademvl.reporting.tables.markdown import to_markdown
from ademvl.reporting.tables.scores import seed_table
from ademvl.runs.adapter_folder import DESCRIPTION_FILE, REMEDY
from ademvl.runs.trained_adapter import TrainedAdapter
from ademvl.storage.files import read_json

_SHOWN_SETTINGS = ("task", "images", "method", "backbones", "prompts", "evaluation")
_SHIPPED = {
    "easy_vqa": "easy-VQA, images and questions of the Python package easy-vqa: MIT",
    "many_shapes": "many_shapes, drawn by ademvl: MIT",
}
_IMAGE = '"sample:red_circle.png"'
_CALLS: Mapping[RequestKind, str] = {
    "choice": f'answer({_IMAGE}, "What color is the shape?", ["red", "blue"])',
    "caption": f"caption({_IMAGE})",
    "open": f'answer({_IMAGE}, "What color is the shape?")',
}
_NO_LICENSE = "no licence was chosen"
_UNMEASURED = (
    "No scores came with it: it was exported without its study, or its evaluation is not finished."
)


def model_card(trained: TrainedAdapter, run: RunSettings, *, license_name: str) -> str:
    """Render README.md of an exported adapter.

    Args:
        trained: the adapter where it was trained, in whose study its scores are looked for.
        run: settings as they are passed on.
        license_name: of the adapter, as the hub calls licences.

    Raises:
        DataError: scores of the study are malformed.
    """
    description = read_json(trained.folder / DESCRIPTION_FILE, remedy=REMEDY)
    parameters = sum(description["parameters"].values())
    study = _study_of(trained)
    shown = {key: value for key, value in run_to_plain(run).items() if key in _SHOWN_SETTINGS}
    settings = yaml.safe_dump(shown, sort_keys=False, allow_unicode=True)
    parts = [
        f"---\n{yaml.safe_dump(_metadata(run, license_name), sort_keys=False)}---",
        f"# {run.name}, seed {run.seed}: adapter of method {run.method.name}",
        f"{parameters:,} trained parameters that join a frozen language model "
        f"(`{run.backbones.llm}`) and a frozen vision tower (`{run.backbones.tower}`) for task "
        f"`{run.task}`, trained and measured with ademvl {__version__}. The frozen models are not "
        "in here.",
        f"## Measured\n\n{_measured(trained, study)}",
        f"## Use it\n\n{_usage(run)}",
        "## Check it\n\n`ademvl adapter check my_adapter` asks again what `golden.json` holds, "
        "about images that come with ademvl, and compares the answers and their probabilities.",
        f"## Settings\n\n```yaml\n{settings}```",
        f"## Licences\n\n{_licences(run, study, license_name)}",
    ]
    return "\n\n".join(parts) + "\n"


def _metadata(run: RunSettings, license_name: str) -> dict[str, object]:
    found: dict[str, object] = {
        "library_name": "ademvl",
        "license": license_name,
        "pipeline_tag": facts_of(run.task).pipeline,
        "tags": ["vision-language", "parameter-efficient", run.method.name],
    }
    is_repository = run.backbones.llm.count("/") == 1 and not Path(run.backbones.llm).exists()
    return found | ({"base_model": run.backbones.llm} if is_repository else {})


def _study_of(trained: TrainedAdapter) -> Study | None:
    """Return the study in whose results an adapter lies; None for one that lies elsewhere."""
    parents = trained.folder.absolute().parents  # results/<study>/runs/<run>/seed<n>
    file = parents[3] / STUDY_FILE if len(parents) > 3 else None
    return load_study(file) if file and file.is_file() else None


def _measured(trained: TrainedAdapter, study: Study | None) -> str:
    if study is None:
        return _UNMEASURED
    run_dir = trained.folder.parent
    results = read_results(study, refuse_doubtful=False)
    for run in results.runs:
        for seed in run.finished:
            if seed.run_dir.absolute() == run_dir.absolute():
                _, _, table = to_markdown(seed_table(results, run, seed)).partition("\n")
                return table.strip().replace("\n## ", "\n### ")
    return _UNMEASURED


def _usage(run: RunSettings) -> str:
    call = _CALLS[facts_of(run.task).learned[0]]
    call = call.replace(_IMAGE, "None") if run.images == "withheld" else call
    return (
        "With ademvl installed, and in place of REPOSITORY the name of this page:\n\n"
        "```bash\nademvl adapter pull REPOSITORY --output my_adapter\n```\n\n"
        f'```python\nimport ademvl\n\nmodel = ademvl.load("my_adapter")\nprint(model.{call})\n'
        "```\n\nWhere the frozen models lie elsewhere, say so in `run.yaml`, under `backbones`; "
        "that they are the right ones is checked by fingerprints."
    )


def _licences(run: RunSettings, study: Study | None, license_name: str) -> str:
    chosen = _NO_LICENSE if license_name == "other" else license_name
    lines = [
        f"The adapter itself: {chosen}. Whoever uses it is bound by the licences of the "
        "frozen models, and of the data that it was trained on:",
        "",
    ]
    found = [*_study_licences(study)] if study else []
    if run.backbones.llm == "mini":
        found.append("the mini language model and towers, which come with ademvl: MIT")
    lines += [f"- {line}" for line in found or ["not known here; ask who trained it"]]
    return "\n".join(lines)


def _study_licences(study: Study) -> list[str]:
    registry, settings = load_registry(), study.settings
    names = [*(dataset.source for dataset in settings.datasets.values()), *settings.backbones]
    lines = []
    for name in dict.fromkeys(names):
        if name in _SHIPPED:
            lines.append(_SHIPPED[name])
            continue
        try:
            license_ = registry.license_of(name)
        except SettingsError:  # the user's own
            lines.append(f"{name}: not known here")
        else:
            lines.append(f"{registry.source(name).title}: {license_.name} {license_.url}".strip())
    return lines
