"""Protects the promise that pip, conda and the declared ranges install the same versions."""

import re
import tomllib

import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import PROJECT_ROOT

CONDA_PYTHON = {
    "python_version": "3.11",
    "python_full_version": "3.11.9",
    "sys_platform": "linux",
    "platform_machine": "x86_64",
    "platform_system": "Linux",
}


def lock_lines() -> list[str]:
    return (PROJECT_ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()


def locked_versions() -> dict[str, str]:
    found = {}
    for line in lock_lines():
        requirement = Requirement(line)
        marker: Marker | None = requirement.marker
        if marker is None or marker.evaluate(CONDA_PYTHON):
            found[canonicalize_name(requirement.name)] = str(requirement.specifier)[2:]
    return found


def direct_dependencies() -> list[Requirement]:
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return [Requirement(text) for text in project["project"]["dependencies"]]


def test_conda_environment_has_the_locked_pins() -> None:
    environment = yaml.safe_load((PROJECT_ROOT / "envs/ademvl.yaml").read_text(encoding="utf-8"))
    pins = {
        canonicalize_name(Requirement(text).name): str(Requirement(text).specifier)[2:]
        for text in environment["dependencies"][-1]["pip"]
    }
    locked = locked_versions()
    assert pins == {
        canonicalize_name(requirement.name): locked[canonicalize_name(requirement.name)]
        for requirement in direct_dependencies()
    }


def test_locked_versions_are_within_the_declared_ranges() -> None:
    locked = locked_versions()
    for requirement in direct_dependencies():
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)])


def test_lock_names_no_index_host() -> None:
    assert not [line for line in lock_lines() if re.search(r"https?:|index-url|find-links", line)]


def test_container_has_the_locked_pins_and_the_python_of_conda() -> None:
    recipe = (PROJECT_ROOT / "envs/Containerfile").read_text(encoding="utf-8")
    environment = yaml.safe_load((PROJECT_ROOT / "envs/ademvl.yaml").read_text(encoding="utf-8"))
    python = next(entry for entry in environment["dependencies"] if str(entry).startswith("python"))
    assert f"FROM python:{python.partition('=')[2]}-" in recipe
    installs = re.findall(r"pip install (.*)", recipe)
    assert installs
    assert all("--constraint requirements.lock" in options for options in installs)
    assert "COPY requirements.lock " in recipe


def test_exact_pins_of_extras_are_the_locked_ones() -> None:
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    locked = locked_versions()
    for text in project["project"]["optional-dependencies"]["cluster"]:
        requirement = Requirement(text)
        assert str(requirement.specifier) == f"=={locked[canonicalize_name(requirement.name)]}"
