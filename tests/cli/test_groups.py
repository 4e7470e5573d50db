"""Protects the help: every verb stands in it once, among what people want to do."""

from collections import Counter

from ademvl.cli import _GROUPS, _parser


def test_every_verb_is_in_one_group() -> None:
    listed = Counter(name for names in _GROUPS.values() for name in names)
    assert set(listed.values()) == {1}
    text = _parser().format_help()
    for group, names in _GROUPS.items():
        assert f"\n{group}:\n  {names[0]}" in text
    verbs = next(action for action in _parser()._actions if action.dest == "verb")
    assert verbs.choices is not None
    assert listed.keys() == set(verbs.choices)
