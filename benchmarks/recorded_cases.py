"""Chooses the recorded cases that ship with the package, from whole sets of golden tensors.

    python benchmarks/recorded_cases.py ../shared ademvl/golden/recorded_cases.tar.xz

Takes `golden` and `golden_peers` of a folder. Every kind of case stays, in a smaller form: fewer
variants, pictures, rows and steps. No tensor and no number is changed. Texts of ScienceQA stay
where they are computed with: two questions of the other methods' rows.
"""

import argparse
import io
import lzma
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from ademvl.golden.files import REMEDY
from ademvl.storage.files import read_json, sha256_file, write_bytes, write_json

OWN, OTHERS = "golden", "golden_peers"
WHOLE = (
    *("models/*.json", "models/*.safetensors", "models/weights/tokenizer.model"),
    *("models/weights/7B/*", "A_vision.json", "B_sampler.*"),
    *("E_trajectory.json", "E_lr_table.json", "D_inputs.safetensors"),
    *("G_captions.*", "I_checkpoint_ddp.pth", "J_scoring.json"),
)
"""Files of the reference's set that are copied as they are."""
FUSION, CALLS = ("drop0.1", "ties_drop0.5"), ("mixed_len_gen6", "limit_img_total514_gen1")
PASSES: Mapping[str, tuple[str, ...]] = {
    "alt": (),
    "cls": ("features", "image_embeds", "layer_out_[12]", "logits"),
}
"""Variants of case D, with what is left out of each."""
TEXTS, SHOWN = "caption.w512", 1
"""Of case G the tokenized texts, of case A the number of pictures."""
SCORED_BY = ("answer", "grade", "image", "split", "subject", "task")
"""What scoring reads of a question, beside the number of choices and whether there is a hint."""
PEER_TENSORS: Mapping[str, tuple[str, ...]] = {
    "flamingo/A_perceiver": (),
    "flamingo/B_gated_block": (),
    "lavin/A_forward_train": ("step[12].*", "layer_out_[12]", "variant.*"),
    "lavin/B_plain_visual_adapter": (),
    "lavin/C_generate": ("all.*", "single[123].*"),
    "llama_adapter/A_v1_text": ("step[12].*", "layer_out_2"),
    "memvp/A_forward_train": ("step[12].*", "layer_out_[12]"),
    "memvp/B_generate": ("longer.*", "single0.*"),
    "mm_cot/A_t5": (),
    "vl_adapter/A_vlbart": ("logits",),
    "vl_adapter/B_adapter_with_norms": (),
}
"""Cases of other methods, with what is left out of each."""
PRESET: list[dict[str, Any]] = [
    {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "lp": 2, "pb": 2}
]
"""Numbers of four bytes."""


def main() -> None:
    """Write the archive, the same bytes from the same sets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", type=Path, help=f"folder with {OWN} and {OTHERS}")
    parser.add_argument("archive", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _choose_own(options.sets / OWN, folder / OWN)
        _choose_others(options.sets / OTHERS, folder / OTHERS)
        for each in (OWN, OTHERS):
            _write_manifest(options.sets / each, folder / each)
        _pack(folder, options.archive)
    print(f"{options.archive}: {options.archive.stat().st_size / 1e6:.2f} MB")


def _choose_own(source: Path, target: Path) -> None:
    for pattern in WHOLE:
        for path in sorted(source.glob(pattern)):
            _copy(path, target / path.relative_to(source))
    _keep(source, target, "pixels", ("pixels_sqa",))
    vision = _read_tensors(source / "A_vision")
    _save(target / "A_vision", {name: tensor[:SHOWN] for name, tensor in vision.items()})
    shared = ("x", "image_embeds", "adapter_emb?", "ties.*", "grad_out")
    _keep(source, target, "C_fusion", (*shared, *(f"{case}.*" for case in FUSION)))
    _keep_entries(source, target, "C_fusion", "cases", FUSION)
    for variant, left_out in PASSES.items():
        _drop(source, target, f"D_{variant}", left_out)
    _keep_entries(source, target, "D_forward", "variants", tuple(PASSES))
    last = len(_read(source / "E_trajectory.json")["lr"])
    _drop(source, target, "E_trajectory", tuple(f"step{step}.*" for step in range(1, last)))
    _keep(source, target, "F_generate", [f"{call}.*" for call in CALLS])
    _keep_entries(source, target, "F_generate", "calls", CALLS)
    _choose_texts(source, target)
    _keep_entries(source, target, "I_checkpoint", "files", ("ddp",))
    images = _read(source / "H_images.json")
    made = [name for name, facts in images["images"].items() if not facts["real"]]
    _keep(source, target, "H_images", [f"{name}.*" for name in made])
    _keep_entries(source, target, "H_images", "images", made)
    problems = _read(source / "J_problems.json")
    write_json(target / "J_problems.json", {key: _textless(p) for key, p in problems.items()})


def _choose_texts(source: Path, target: Path) -> None:
    """Keep the invented questions of case G, and those that other methods' rows are made of."""
    prompts, tokens = _read(source / "G_prompts.json"), _read(source / "G_tokens.json")
    used = {
        question
        for case in PEER_TENSORS
        for question in _read(source.parent / OTHERS / f"{case}.json").get("qids", ())
    }
    kept = [name for name in prompts["order"] if name.startswith("syn") or name in used]
    for key in ("problems", "expected"):
        prompts[key] = {name: prompts[key][name] for name in kept}
    write_json(target / "G_prompts.json", {**prompts, "order": kept})
    rows = [tokens["order"].index(name) for name in kept]
    arrays = tokens["arrays"][TEXTS]
    arrays = {k: [v[row] for row in rows] if isinstance(v, list) else v for k, v in arrays.items()}
    for counted_over_all in ("truncated", "no_label_left"):
        del arrays[counted_over_all]
    write_json(target / "G_tokens.json", {**tokens, "order": kept, "arrays": {TEXTS: arrays}})
    tensors = _read_tensors(source / "G_tokens")
    of_text = {name: t[rows] for name, t in tensors.items() if name.startswith(f"{TEXTS}.")}
    _save(target / "G_tokens", of_text)


def _textless(problem: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the texts of a question, which scoring does not read."""
    without = {name: value if name in SCORED_BY else "" for name, value in problem.items()}
    choices = [str(number) for number, _ in enumerate(problem["choices"], start=1)]
    return {**without, "choices": choices, "question": "-", "hint": "-" if problem["hint"] else ""}


def _choose_others(source: Path, target: Path) -> None:
    for case, left_out in PEER_TENSORS.items():
        details = _read(source / f"{case}.json")
        if "calls" in details:
            left = [name for name in details["calls"] if not _any(f"{name}.", left_out)]
            details["calls"] = {name: details["calls"][name] for name in left}
        (target / case).parent.mkdir(parents=True, exist_ok=True)
        write_json(target / f"{case}.json", details)
        _drop(source, target, case, left_out)


def _any(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _keep(source: Path, target: Path, case: str, patterns: Iterable[str]) -> None:
    tensors = _read_tensors(source / case)
    _save(target / case, {name: t for name, t in tensors.items() if _any(name, patterns)})


def _drop(source: Path, target: Path, case: str, patterns: Iterable[str]) -> None:
    tensors = _read_tensors(source / case)
    _save(target / case, {name: t for name, t in tensors.items() if not _any(name, patterns)})


def _read_tensors(path: Path) -> dict[str, Tensor]:
    return load_file(path.with_name(f"{path.name}.safetensors"))


def _save(path: Path, tensors: Mapping[str, Tensor]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, path.with_name(f"{path.name}.safetensors"))


def _keep_entries(source: Path, target: Path, case: str, key: str, names: Iterable[str]) -> None:
    details = _read(source / f"{case}.json")
    write_json(target / f"{case}.json", {**details, key: {n: details[key][n] for n in names}})


def _read(path: Path) -> Any:
    return read_json(path, remedy=REMEDY)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes())


def _write_manifest(source: Path, target: Path) -> None:
    """State what the whole set says of its sources and versions, and each file's checksum."""
    manifest = _read(source / "manifest.json")
    files = {
        path.relative_to(target).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": sha256_file(path),
        }
        for path in sorted(target.rglob("*"))
        if path.is_file()
    }
    write_json(target / "manifest.json", {**manifest, "files": files})


def _pack(folder: Path, archive: Path) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                member = tarfile.TarInfo(path.relative_to(folder).as_posix())
                member.size = path.stat().st_size
                with path.open("rb") as file:
                    tar.addfile(member, file)
    write_bytes(archive, lzma.compress(content.getvalue(), filters=PRESET))


if __name__ == "__main__":
    main()
