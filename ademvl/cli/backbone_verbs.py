"""Verbs about the frozen models: conversion of Meta's releases, training of the mini backbones."""

import argparse
from pathlib import Path

from ademvl.cli.verb import Verbs, add_parent, add_threads, add_verb


def add_verbs(verbs: Verbs) -> None:
    """Add the verb `backbones` with its actions."""
    backbones = add_parent(verbs, "backbones", "Convert or train frozen models.")
    actions = backbones.add_subparsers(dest="action", required=True, metavar="ACTION")
    convert = add_verb(
        actions, "convert", _convert, "Convert a folder of Meta's LLaMA releases, once."
    )
    convert.add_argument("folder", type=Path, help="params.json, consolidated.*.pth")
    convert.add_argument("--output", type=Path, required=True, help="folder to write")
    convert.add_argument(
        "--release", help="source of the registry whose checksums it has, such as llama_7b"
    )
    mini = add_verb(actions, "mini", _mini, "Train the mini backbones anew.")
    mini.add_argument("--data", type=Path, required=True, help="manifest of converted data")
    mini.add_argument("--llm", type=Path, required=True, help="RECIPE.json to write")
    mini.add_argument("--clip", type=Path, required=True, help="RECIPE.json to write")
    add_threads(mini)
    shapes = add_verb(actions, "mini-shapes", _mini_shapes, "Train those of many_shapes anew.")
    shapes.add_argument("--clip", type=Path, required=True, help="RECIPE.json to write")
    shapes.add_argument("--llm", type=Path, required=True, help="the same, of text alone")
    shapes.add_argument("--slots-llm", type=Path, required=True, help="the same, with slots")
    add_threads(shapes)


def _convert(options: argparse.Namespace) -> int:
    from ademvl.llm.convert import convert_meta

    known = {}
    if options.release:
        from ademvl.data.acquisition.registry import load_registry

        known = dict(load_registry().source(options.release).meta_sha256)
    content = convert_meta(options.folder, options.output, known_sha256=known)
    print(
        f"{options.output}: {content['num_parameters']:,} parameters in {len(content['files'])} "
        f"files"
    )
    return 0


def _mini(options: argparse.Namespace) -> int:
    from ademvl.machine.devices import set_threads

    set_threads(options.threads)
    from ademvl.backbones.mini_clip import train_mini_clip
    from ademvl.backbones.mini_llm import train_mini_llm

    train_mini_clip(options.clip.parent, options.data.parent)
    train_mini_llm(options.llm.parent, options.data.parent / "scienceqa")
    return 0


def _mini_shapes(options: argparse.Namespace) -> int:
    from ademvl.machine.devices import set_threads

    set_threads(options.threads)
    from ademvl.backbones.mini_shapes_clip import train_mini_shapes_clip
    from ademvl.backbones.mini_shapes_llm import TEXT_ALONE, WITH_SLOTS, train_mini_shapes_llm

    train_mini_shapes_clip(options.clip.parent)
    train_mini_shapes_llm(options.llm.parent, TEXT_ALONE)
    train_mini_shapes_llm(options.slots_llm.parent, WITH_SLOTS)
    return 0
