"""Protects the table of fusion rules: every value of the setting has its rule, no other has one."""

from typing import get_args

import pytest

from ademvl.methods.adem.fusions import FUSIONS, Fusion, fusion_rule
from ademvl.methods.adem.settings import AdemSettings


def test_every_value_of_the_setting_but_none_has_a_rule() -> None:
    assert {*FUSIONS, "none"} == {*get_args(Fusion)}
    assert fusion_rule("none") is None


def test_unknown_rule_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"no fusion rule 'mine'; there are adem, memvp and none"):
        fusion_rule("mine")


def test_scores_are_those_of_the_rule() -> None:
    drawn = {name: AdemSettings(fusion=name).draws_scores for name in get_args(Fusion)}
    assert drawn == {"adem": True, "memvp": False, "none": False}
