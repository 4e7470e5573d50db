"""Protects how a process finds out that it is one of several: torchrun, srun, or neither."""

from collections.abc import Mapping

import pytest

from ademvl.errors import SettingsError
from ademvl.training.membership import Membership, find_membership

TORCHRUN = {
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "node1",
    "MASTER_PORT": "29500",
}
SRUN = {
    "SLURM_JOB_ID": "12",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "6",
    "SLURM_LOCALID": "2",
    "SLURM_NODEID": "1",
    "SLURM_NTASKS": "8",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
    "SLURM_STEP_NODELIST": "node1,node2",
}


def test_usual_process_is_alone() -> None:
    assert find_membership({"PATH": "/bin"}) is None


def test_torchrun() -> None:
    assert find_membership(TORCHRUN) == Membership(
        rank=5,
        world_size=8,
        local_rank=1,
        local_processes=4,
        init_method="env://",
        address="node1:29500",
        told_by="RANK=5 and WORLD_SIZE=8",
    )


def test_tasks_of_srun() -> None:
    membership = find_membership(SRUN)
    assert membership is not None
    assert (
        membership.rank,
        membership.world_size,
        membership.local_rank,
        membership.local_processes,
    ) == (6, 8, 2, 4)
    assert membership.init_method.startswith("tcp://node1:2")
    assert membership.init_method == find_membership({**SRUN, "SLURM_PROCID": "0"}).init_method
    assert membership.init_method != find_membership({**SRUN, "SLURM_JOB_ID": "13"}).init_method


def test_address_of_the_user_is_taken() -> None:
    membership = find_membership({**SRUN, "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "1234"})
    assert membership is not None
    assert membership.init_method == "tcp://10.0.0.1:1234"


@pytest.mark.parametrize(("node", "expected"), [("0", 3), ("1", 3), ("2", 2)])
def test_machines_with_different_numbers_of_tasks(node: str, expected: int) -> None:
    membership = find_membership(
        {**SRUN, "SLURM_STEP_TASKS_PER_NODE": "3(x2),2", "SLURM_NODEID": node}
    )
    assert membership is not None
    assert membership.local_processes == expected


def test_batch_script_with_several_tasks_is_none_of_them() -> None:
    script = {"SLURM_JOB_ID": "12", "SLURM_PROCID": "0", "SLURM_NTASKS": "8"}
    assert find_membership(script) is None


@pytest.mark.parametrize(
    "environ",
    [
        {key: value for key, value in TORCHRUN.items() if key != "MASTER_ADDR"},
        {**TORCHRUN, "RANK": "first"},
        {**TORCHRUN, "MASTER_PORT": "any"},
        {key: value for key, value in SRUN.items() if key != "SLURM_PROCID"},
    ],
)
def test_half_an_environment_is_an_error(environ: Mapping[str, str]) -> None:
    with pytest.raises(SettingsError, match="started as one of several processes"):
        find_membership(environ)


@pytest.mark.parametrize("changes", [{"RANK": "8"}, {"RANK": "-1"}, {"WORLD_SIZE": "0"}])
def test_a_number_that_no_process_has_is_an_error(changes: Mapping[str, str]) -> None:
    with pytest.raises(SettingsError, match=r"RANK=.* and WORLD_SIZE=.*, but processes count"):
        find_membership({**TORCHRUN, **changes})


@pytest.mark.parametrize(
    ("changes", "others"),
    [
        ({"RANK": "0", "WORLD_SIZE": "2"}, "process 1 of 2"),
        ({"RANK": "1", "WORLD_SIZE": "2"}, "process 0 of 2"),
        ({}, "the other 7 of 8 processes"),
    ],
)
def test_those_that_are_waited_for(changes: Mapping[str, str], others: str) -> None:
    membership = find_membership({**TORCHRUN, **changes})
    assert membership is not None
    assert membership.others == others
