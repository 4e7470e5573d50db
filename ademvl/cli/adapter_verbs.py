"""Verbs about adapters: from and to the authors' checkpoints, and as folders to pass on."""

import argparse
from pathlib import Path

from ademvl.cli.verb import (
    Verbs,
    add_gpu_options,
    add_output,
    add_parent,
    add_threads,
    add_verb,
    gpus_of,
)
from ademvl.config.tasks import all_facts


def add_verbs(verbs: Verbs) -> None:
    """Add the verb `adapter` with its actions."""
    adapter = add_parent(
        verbs,
        "adapter",
        "Pass adapters on, over the hub too; import and export those of the authors' code.",
    )
    actions = adapter.add_subparsers(dest="action", required=True, metavar="ACTION")
    imported = add_verb(
        actions, "import", _import, "Read a checkpoint; nothing that is in it is executed."
    )
    imported.add_argument("file", type=Path, help="checkpoint, or a folder that holds one")
    imported.add_argument("--output", type=Path, required=True, help="adapter folder to write")
    imported.add_argument(
        "--llm", required=True, help="its language model, as backbones.llm of a study"
    )
    imported.add_argument(
        "--tower", default="ViT-L-14-quickgelu", help="its vision tower (%(default)s)"
    )
    imported.add_argument(
        "--tower-weights", default="openai", help="tag of open_clip or file (%(default)s)"
    )
    imported.add_argument(
        "--precision",
        choices=["fp32", "fp16", "bf16"],
        default="fp16",
        help="of the language model (%(default)s)",
    )
    imported.add_argument(
        "--task",
        choices=list(all_facts()),
        help="what it was trained for (default: as the file says)",
    )
    _add_export(actions)
    checked = add_verb(
        actions,
        "check",
        _check,
        "Compare the answers of an exported adapter with those in its folder; 1 where they differ.",
    )
    pushed = add_verb(actions, "push", _push, "Upload an exported folder to the Hugging Face hub.")
    pulled = add_verb(actions, "pull", _pull, "Fetch an exported adapter from the hub.")
    for verb in (checked, pushed):
        verb.add_argument("run", type=Path, metavar="folder", help="written by export --hub")
    add_threads(checked)
    add_gpu_options(checked)
    for verb in (pushed, pulled):
        verb.add_argument("repository", help="OWNER/NAME on the hub")
    pushed.add_argument("--private", action="store_true", help="where the repository is new")
    pulled.add_argument("--output", type=Path, required=True, help="folder to write")
    pulled.add_argument("--revision", default="main", help="branch, tag or commit (%(default)s)")


def _add_export(actions: Verbs) -> None:
    verb = add_verb(
        actions, "export", _export, "Write an adapter as a folder for the hub, or as a checkpoint."
    )
    verb.add_argument("run", type=Path, metavar="folder", help="adapter folder, or run directory")
    form = verb.add_mutually_exclusive_group(required=True)
    form.add_argument("--hub", type=Path, metavar="DIR", help="folder to write, with a model card")
    add_output(form, "file of the authors' form to write (.pth)")
    verb.add_argument("--llm", default="", help="--hub: language model as others find it")
    verb.add_argument("--tower-weights", default="", help="--hub: weights of the tower, likewise")
    verb.add_argument(
        "--license",
        default="other",
        help="--hub: of the adapter, as the hub calls it (%(default)s)",
    )
    add_threads(verb)
    add_gpu_options(verb)


def _import(options: argparse.Namespace) -> int:
    from ademvl.config.mini_backbones import MINI_TOWERS
    from ademvl.config.run import BackboneSettings
    from ademvl.released.adapter import import_adapter

    backbones = BackboneSettings(
        llm=options.llm,
        tower=options.tower,
        tower_weights="" if options.tower in MINI_TOWERS else options.tower_weights,
        precision=options.precision,
    )
    origin = import_adapter(options.file, options.output, backbones=backbones, task=options.task)
    print(f"{options.output}: from {origin['file']}, sha256 {origin['sha256']}")
    return 0


def _export(options: argparse.Namespace) -> int:
    if options.output:
        from ademvl.released.adapter import export_adapter

        export_adapter(options.run, options.output)
        return 0
    from ademvl.machine.devices import set_threads
    from ademvl.sharing.folder import export_folder

    set_threads(options.threads)
    with gpus_of(options):
        export_folder(
            options.run,
            options.hub,
            llm=options.llm,
            tower_weights=options.tower_weights,
            license_name=options.license,
        )
    print(f"{options.hub}: read its README.md, then `ademvl adapter push {options.hub} OWNER/NAME`")
    return 0


def _check(options: argparse.Namespace) -> int:
    from ademvl.machine.devices import set_threads
    from ademvl.sharing.folder import GOLDEN_FILE, check_folder
    from ademvl.sharing.golden_answers import compare_answers

    set_threads(options.threads)
    trained = check_folder(options.run)
    with gpus_of(options):
        differences = compare_answers(trained, options.run / GOLDEN_FILE)
    print("\n".join(differences) or f"{options.run}: answers as where it was exported")
    return int(bool(differences))


def _push(options: argparse.Namespace) -> int:
    from ademvl.sharing.hub import push

    print(push(options.run, options.repository, private=options.private))
    return 0


def _pull(options: argparse.Namespace) -> int:
    from ademvl.sharing.hub import pull

    pull(options.repository, options.output, revision=options.revision)
    print(f"{options.output}: `ademvl adapter check {options.output}` asks it again")
    return 0
