"""Protects how methods are found by their names."""

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from ademvl.config import methods_by_name
from ademvl.config.method import MethodSettings
from ademvl.config.methods_by_name import (
    built_in_methods,
    default_method,
    known_methods,
    register_method,
    settings_class_of,
    trained_module,
)
from ademvl.config.setting import settings_class
from ademvl.errors import SettingsError
from ademvl.methods.adem.settings import AdemSettings
from tests.config.methods_of_tests import Blind
from tests.conftest import PROJECT_ROOT


def test_settings_of_everything_are_there_without_torch() -> None:
    code = """
import importlib, pkgutil, sys
import ademvl.config, ademvl.runs
from ademvl.config.methods_by_name import built_in_methods, settings_class_of
for package in (ademvl.config, ademvl.runs):
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
for name in built_in_methods():
    settings_class_of(name)
sys.exit("torch" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, check=True)


def test_method_of_a_run_that_names_none_is_adem() -> None:
    assert default_method() == AdemSettings()
    assert built_in_methods()[0] == "adem"
    assert trained_module(AdemSettings()) == "ademvl.methods.adem.method"


def test_registered_class_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods_by_name, "_registered", {})
    register_method(Blind)
    assert known_methods()[-1] == "blind"
    assert settings_class_of("blind") is Blind
    assert trained_module(Blind()) == Blind.__module__


def test_second_method_of_a_name_is_refused() -> None:
    @settings_class
    class Other(AdemSettings):
        """Another one."""

    with pytest.raises(TypeError, match="a method 'adem' exists already"):
        register_method(Other)


@pytest.mark.parametrize("value", ["a_package", "a_package.settings:Far"])
def test_other_packages_are_found_by_their_entry_point(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "a_package"
    package.mkdir()
    (package / "__init__.py").touch()
    source = Path(sys.modules[Blind.__module__].__file__ or "").read_text(encoding="utf-8")
    text = source.replace("Blind", "Far").replace('"blind"', '"far"')
    (package / "settings.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint(name="far", value=value, group="ademvl.methods")
    monkeypatch.setattr(methods_by_name, "entry_points", lambda group: [point])
    assert "far" in known_methods()
    found = settings_class_of("far")
    assert found().name == "far"
    assert trained_module(found()) == "a_package.method"
    for name in ("a_package", "a_package.settings"):
        sys.modules.pop(name)


def test_an_entry_point_may_name_a_class_that_registers_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Path(sys.modules[Blind.__module__].__file__ or "").read_text(encoding="utf-8")
    text = source.replace("Blind", "Single").replace('"blind"', '"single"')
    text = text.replace("@settings_class", "@register_method\n@settings_class")
    base = "from ademvl.config.method import"
    text = text.replace(base, f"from ademvl.config.methods_by_name import register_method\n{base}")
    (tmp_path / "a_single_file.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(methods_by_name, "_registered", {})
    point = EntryPoint(name="single", value="a_single_file:Single", group="ademvl.methods")
    monkeypatch.setattr(methods_by_name, "entry_points", lambda group: [point])
    assert settings_class_of("single")().name == "single"
    assert settings_class_of("single") is sys.modules["a_single_file"].Single
    sys.modules.pop("a_single_file")


def test_an_entry_point_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint(name="far", value="no_such_package", group="ademvl.methods")
    monkeypatch.setattr(methods_by_name, "entry_points", lambda group: [point])
    with pytest.raises(SettingsError, match=r"'far': the entry point 'no_such_package'.*repair"):
        settings_class_of("far")


def test_unknown_method_names_the_known_ones_and_the_nearest() -> None:
    with pytest.raises(SettingsError) as caught:
        settings_class_of("adam")
    assert "'adam' is no method (known: adem" in str(caught.value)
    assert "did you mean adem?" in str(caught.value)


def test_class_that_is_not_checked_is_refused() -> None:
    class Unchecked(MethodSettings):
        pass

    with pytest.raises(TypeError, match="put @settings_class on it"):
        register_method(Unchecked)


def test_base_class_is_no_method() -> None:
    with pytest.raises(TypeError, match="give its field `name` a default"):
        register_method(MethodSettings)
