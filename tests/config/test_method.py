"""Protects what general code may know of a method."""

import pytest

from ademvl.config.method import TextPlaces, TowerStates
from ademvl.config.plain import all_plain, to_plain
from ademvl.methods.adem.settings import AdemSettings
from tests.config.methods_of_tests import Blind

PLAIN_BLIND = {"name": "blind", "width": 8, "shuffle": True, "temperature": 1.0, "chunk": 4}


def test_name_of_the_default_method_is_never_written() -> None:
    assert "name" not in all_plain(AdemSettings())
    assert "name" not in to_plain(AdemSettings())
    assert to_plain(Blind()) == all_plain(Blind()) == PLAIN_BLIND


def test_adem_reads_what_the_feature_cache_has_always_held() -> None:
    assert AdemSettings().tower_states == TowerStates()
    assert AdemSettings(cls=True, visual_tokens=64).text_places == TextPlaces(with_image=65)


@pytest.mark.parametrize(("fusion", "draws"), [("adem", True), ("memvp", False), ("none", False)])
def test_only_adaptive_fusion_draws_scores(fusion: str, draws: bool) -> None:
    assert AdemSettings(fusion=fusion).draws_scores == draws


def test_base_class_asks_for_nothing_special() -> None:
    assert (Blind().tower_states, Blind().text_places) == (TowerStates(), TextPlaces())
    assert not Blind().draws_scores
