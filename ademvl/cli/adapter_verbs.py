"""Verbs that turn the authors' checkpoints into adapters, and adapters into such checkpoints."""

import argparse
from pathlib import Path

from ademvl.cli.verb import Verbs, add_output, add_parent, add_verb


def add_verbs(verbs: Verbs) -> None:
    """Add the verb `adapter` with its actions."""
    adapter = add_parent(verbs, "adapter", "Import or export adapters of the authors' code.")
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
        choices=["scienceqa", "coco_caption", "instruction"],
        help="what it was trained for (default: as the file says)",
    )
    exported = add_verb(actions, "export", _export, "Write an adapter as a checkpoint.")
    exported.add_argument("folder", type=Path, help="adapter folder, or run directory")
    add_output(exported, "file to write (.pth)", required=True)


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
    from ademvl.released.adapter import export_adapter

    export_adapter(options.folder, options.output)
    return 0
