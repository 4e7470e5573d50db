"""Protects the promise of the ready-made studies: they fit their card with 15 % to spare."""

import pytest

from ademvl.config.study import load_study
from ademvl.planning.devices import gpu_by_name
from ademvl.planning.fit import fit_of
from ademvl.planning.plans import Target
from ademvl.planning.study_plan import plan_study
from tests.conftest import PROJECT_ROOT

GIB = 1 << 30


@pytest.mark.parametrize(
    ("name", "memory_bytes"),
    [
        ("scienceqa-7b-24gb", gpu_by_name("4090").memory_bytes),
        ("scienceqa-7b-24gb", gpu_by_name("A10").memory_bytes),
        ("scienceqa-7b-12gb", 12 * GIB),
        ("colab", gpu_by_name("T4").memory_bytes),
    ],
)
def test_study_fits_its_card(name: str, memory_bytes: int) -> None:
    study = load_study(PROJECT_ROOT / f"workflow/studies/{name}.yaml")
    for run in plan_study(study, Target(gpu=gpu_by_name("T4"))).runs:
        needed = max(run.memory.total if run.trains else 0, run.evaluation_memory)
        assert fit_of(needed, memory_bytes) == "fits", run.name


def test_sizes_that_nobody_knows_are_told_as_unknown() -> None:
    plan = plan_study(load_study(PROJECT_ROOT / "workflow/studies/captions-7b.yaml"), Target())
    unknown = {part.what: part.bytes for part in plan.disk if not part.is_known}
    assert unknown["adem_released_caption, fetched"] == 0
    assert all(part.bytes for part in plan.disk if part.is_known)
