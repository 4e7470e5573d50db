"""Protects what is said of a profile before any job: mistakes that show late, or never."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from ademvl.cli import main
from ademvl.errors import SettingsError, ToolError
from ademvl.workflow.preflight import find_problems
from ademvl.workflow.profile import GPU_RULES, Profile, read_profile
from ademvl.workflow.slurm import Cluster, ask_slurm, slurm_problems, status_problems
from tests.conftest import PROJECT_ROOT

SINFO = """#!/bin/sh
printf 'cpu*|(null)\\ngpu|gpu:a100:4(S:0-1)\\ngpu|gpu:v100:2\\n'
"""
SCONTROL = """#!/bin/sh
printf 'AccountingStorageType   = accounting_storage/none\\nMinJobAge               = 300 sec\\n'
"""
CLUSTER = Cluster(
    gres={"cpu": "", "gpu": "gpu:a100:4(S:0-1),gpu:v100:2"},
    default_partition="cpu",
    has_accounting=False,
    min_job_age_seconds=300,
)
GOOD = {"slurm-status-command": "squeue", "slurm-init-seconds-before-status-checks": 20}


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs that answer as a cluster with two partitions does."""
    for name, script in {"sinfo": SINFO, "scontrol": SCONTROL}.items():
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def problems(options: dict[str, Any] | None = None, **resources: Any) -> list[str]:
    """What is said of a profile whose rules with GPUs all name the partition that has some."""
    by_rule = {rule: {"slurm_partition": "gpu"} for rule in GPU_RULES} | {"train_run": resources}
    profile = Profile("slurm", options or GOOD, set_resources=by_rule)
    return list(slurm_problems(profile, CLUSTER))


def test_cluster_is_described_by_its_own_commands(slurm: Path) -> None:
    assert ask_slurm() == CLUSTER


def test_controller_that_does_not_answer_is_said_so(slurm: Path) -> None:
    (slurm / "sinfo").write_text(
        "#!/bin/sh\necho 'Unable to contact slurm controller' >&2\nexit 1\n"
    )
    with pytest.raises(ToolError, match=r"sinfo .*: Unable to contact slurm controller"):
        ask_slurm()


def test_machine_without_slurm_is_said_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = find_problems(Profile("slurm", GOOD | {"retries": 1}))
    assert len(found) == 1
    assert found[0].startswith("sinfo: not found, so there is no Slurm here")


def test_good_profile_has_no_problems() -> None:
    assert problems(slurm_partition="gpu", gpu=1, gpu_model="a100", mem_mb="attempt * 700") == []


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        (
            {"slurm_partition": "gpu", "gpus": 1},
            "set-resources: train_run: gpus asks Slurm for nothing",
        ),
        ({"gpu": 1, "gres": "gpu:1", "slurm_partition": "gpu"}, "gpu and gres exclude each other"),
        ({}, "set-resources: train_run: GPUs asked for in partition cpu, which has none"),
        ({"slurm_partition": "gpus"}, "slurm_partition gpus does not exist; there is cpu, gpu"),
        ({"gpu": 1}, "GPUs asked for in partition cpu, which has none. Name one of gpu"),
        (
            {"gpu": 1, "slurm_partition": "gpu", "gpu_model": "h100"},
            "gpu_model h100 is not in partition gpu",
        ),
        (
            {"slurm_partition": "gpu", "mem_mb": 250},
            "mem_mb 250, but two Snakemake processes run in each job",
        ),
    ],
)
def test_wrong_resource_is_named_with_its_place(resources: dict[str, Any], expected: str) -> None:
    found = problems(**resources)
    assert len(found) == 1
    assert expected in found[0]


@pytest.mark.parametrize(
    ("options", "accounting", "expected"),
    [
        ({}, False, "keeps no accounting, so that Snakemake would wait for ever"),
        ({}, True, "does not see that somebody cancels a job"),
        ({"slurm-status-command": "squeue"}, False, "Put `slurm-init-seconds-before-status-checks"),
    ],
)
def test_status_command_that_waits_for_ever_is_named(
    options: dict[str, Any], accounting: bool, expected: str
) -> None:
    cluster = Cluster({"cpu": ""}, "cpu", has_accounting=accounting, min_job_age_seconds=90)
    found = list(status_problems(options, cluster))
    assert len(found) == 1
    assert expected in found[0]


def test_executor_that_is_not_installed_names_what_to_install() -> None:
    found = find_problems(Profile("lsf", {"retries": 1}))
    assert found == ["executor: lsf is not installed. pip install snakemake-executor-plugin-lsf"]


def test_profile_that_never_tries_again_is_named(slurm: Path) -> None:
    assert (
        "retries: 0, so that a job that is preempted" in find_problems(Profile("slurm", GOOD))[-1]
    )


def test_rule_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT_ROOT)
    profile = Profile(options={"groups": {"tabels": "x"}}, set_resources={"train": {}})
    found = find_problems(profile)
    assert found[0].startswith("set-resources: there is no rule train; rules are dataset, ")
    assert found[1].startswith("groups: there is no rule tabels")


def test_program_of_a_deployment_method_must_be_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    profile = Profile(options={"software-deployment-method": "conda"})
    assert find_problems(profile)[0].startswith("software-deployment-method: conda, but conda is")


def test_list_form_of_a_profile_is_understood(tmp_path: Path) -> None:
    raw = {
        "executor": "slurm",
        "default-resources": ["slurm_partition=cpu"],
        "set-resources": ["train_run:gpu=1", "train_run:mem_mb=attempt * 700"],
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(raw))
    profile = read_profile(str(tmp_path))
    assert dict(profile.resources())["set-resources: train_run"] == {
        "slurm_partition": "cpu",
        "gpu": "1",
        "mem_mb": "attempt * 700",
    }


@pytest.mark.parametrize(
    "raw",
    [
        {"default-resources": 5},
        {"set-resources": 5},
        {"set-resources": {"train_run": 5}},
        {"groups": 3},
        {"set-threads": 3},
    ],
)
def test_value_in_place_of_names_is_refused(raw: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(SettingsError, match=f"{next(iter(raw))}.*[35], expected names with values"):
        find_problems(read_profile(str(tmp_path)))


def test_unknown_profile_lists_those_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT_ROOT)
    with pytest.raises(SettingsError, match="has default, generic, kubernetes, slurm"):
        read_profile("nosuch")


def test_verb_prints_problems_and_fails(
    slurm: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(PROJECT_ROOT)
    assert main(["preflight", "--profile", "slurm"]) == 1
    printed = capsys.readouterr().out
    for rule in GPU_RULES:
        assert f"- set-resources: {rule}: GPUs asked for in partition cpu" in printed
    (slurm / "sinfo").write_text(
        SINFO.replace("gpu|", "other|").replace("cpu*|(null)", "cpu*|gpu:2")
    )
    assert main(["preflight", "--profile", "slurm"]) == 0
    assert "nothing to complain about" in capsys.readouterr().out
