"""Protects the shipped profiles: they are found, fit the rules, and Snakemake understands them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ademvl.workflow.preflight import _rule_problems
from ademvl.workflow.profile import read_profile
from tests.conftest import PROJECT_ROOT

PROFILES = PROJECT_ROOT / "workflow/profiles"
SMOKE = PROJECT_ROOT / "workflow/studies/smoke.yaml"
SYSTEM_PATH = "/usr/bin:/bin"
CLUSTER_PROFILES = ("slurm", "slurm-multinode", "generic")


def dry_run(folder: Path, *arguments: str, snakefile: Path = PROJECT_ROOT / "Snakefile") -> str:
    command = [sys.executable, "-m", "snakemake", "-n", "--directory", str(folder)]
    run = subprocess.run(
        [*command, "--snakefile", str(snakefile), *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
        env=os.environ | {"PYTHONPATH": str(PROJECT_ROOT)},
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout + run.stderr


def test_default_profile_is_found_by_itself(tmp_path: Path) -> None:
    assert "profiles/default" in dry_run(tmp_path, "--configfile", str(SMOKE))


@pytest.mark.parametrize("name", CLUSTER_PROFILES)
def test_profile_is_understood_and_leaves_results_alone(tmp_path: Path, name: str) -> None:
    pytest.importorskip(
        "snakemake_executor_plugin_slurm", reason="the extra `cluster` is not installed"
    )
    printed = dry_run(
        tmp_path, "--configfile", str(SMOKE), "--workflow-profile", str(PROFILES / name), "train"
    )
    assert re.search(r"^rule train_run:", printed, flags=re.MULTILINE)
    if name != "generic":
        assert "slurm_extra=--signal=TERM@120" in printed


@pytest.mark.parametrize("name", sorted(folder.name for folder in PROFILES.iterdir()))
def test_profile_names_only_rules_that_there_are(name: str) -> None:
    profile = read_profile(str(PROFILES / name))
    assert list(_rule_problems(profile, PROJECT_ROOT / "workflow/rules")) == []
    assert profile.options["rerun-incomplete"] is True
    assert profile.options["nolock"] is True
    assert profile.options["rerun-triggers"] == ["mtime", "params", "input"]


def test_another_wording_of_a_command_makes_nothing_again(tmp_path: Path) -> None:
    for folder in ("workflow", "envs"):
        shutil.copytree(PROJECT_ROOT / folder, tmp_path / folder)
    (tmp_path / "profiles").symlink_to("workflow/profiles")
    shutil.copy(PROJECT_ROOT / "Snakefile", tmp_path)
    target = "results/smoke/runs/adem/seed0/settings/train.json"
    arguments = ("--configfile", str(SMOKE), "--cores", "1", "--no-hooks", target)
    subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments],
        cwd=tmp_path,
        capture_output=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(PROJECT_ROOT)},
    )
    rules = tmp_path / "workflow/rules/settings.smk"
    rules.write_text(rules.read_text("utf-8").replace("printf '%s", "printf -- '%s"), "utf-8")
    printed = dry_run(tmp_path, *arguments, snakefile=tmp_path / "Snakefile")
    assert "Nothing to be done" in printed


@pytest.mark.parametrize("name", ["slurm", "slurm-multinode"])
def test_long_jobs_have_a_time_that_a_site_can_change(name: str) -> None:
    text = "".join(path.read_text("utf-8") for path in (PROJECT_ROOT / "workflow/rules").iterdir())
    minutes = dict(re.findall(r"^rule (\w+):.*?runtime=(\d+)", text, re.MULTILINE | re.DOTALL))
    long = {rule for rule, runtime in minutes.items() if int(runtime) > 60}
    elsewhere = {"download", "mini_backbones", "mini_shapes_backbones"}  # run locally, and by hand
    named = read_profile(str(PROFILES / name)).set_resources
    assert long - elsewhere <= named.keys()
    assert all("runtime" in named[rule] for rule in long - elsewhere)


def test_pod_runs_the_profile_beside_it_in_the_folder_of_the_container() -> None:
    documents = yaml.safe_load_all((PROFILES / "kubernetes/job.yaml").read_text("utf-8"))
    claim, job = documents
    pod = job["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert (PROJECT_ROOT / container["args"][1] / "config.yaml").is_file()
    assert (PROJECT_ROOT / container["args"][3]).is_file()
    recipe = (PROJECT_ROOT / "envs/Containerfile").read_text(encoding="utf-8")
    assert f"WORKDIR {container['workingDir']}\n" in recipe
    kept = {mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "results"}
    assert kept == {f"{container['workingDir']}/{name}" for name in ("results", ".snakemake")}
    assert all(f":{folder}" in recipe for folder in kept)
    volume = pod["volumes"][0]
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


@pytest.mark.skipif(
    shutil.which("conda", path=SYSTEM_PATH) is not None, reason="conda is installed here"
)
def test_missing_conda_is_said_so(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "snakemake", "-n", "--sdm", "conda", "--configfile", SMOKE]
    run = subprocess.run(
        [*command, "--directory", tmp_path, "--snakefile", PROJECT_ROOT / "Snakefile"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": SYSTEM_PATH, "PYTHONPATH": str(PROJECT_ROOT)},
    )
    assert run.returncode != 0
    assert "Error running conda info" in run.stdout + run.stderr


MODULE = """
module ademvl:
    snakefile: "{root}/Snakefile"
    config: config["ademvl"]

use rule * from ademvl as ademvl_*

rule everything:
    default_target: True
    input:
        rules.ademvl_write_tables.output,
"""


def test_workflow_is_usable_as_a_module_of_another(tmp_path: Path) -> None:
    study = yaml.safe_load(SMOKE.read_text(encoding="utf-8"))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"ademvl": study}), encoding="utf-8")
    snakefile = tmp_path / "Snakefile"
    snakefile.write_text(MODULE.format(root=PROJECT_ROOT), encoding="utf-8")
    printed = dry_run(tmp_path, "--configfile", "config.yaml", snakefile=snakefile)
    for rule in ("ademvl_train_run", "ademvl_dataset", "ademvl_write_tables", "everything"):
        assert re.search(rf"^(local)?rule {rule}:", printed, flags=re.MULTILINE)
