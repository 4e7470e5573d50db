"""Protects how nested mappings are compared, cut and laid flat."""

from ademvl.config.nested import differences, find, flat, holds, with_leaves, without

NESTED = {"a": {"b": 1, "c": {"d": [1, 2]}}, "e": 3, "empty": {}}


def test_leaves_stand_under_their_dotted_path() -> None:
    assert flat(NESTED) == {"a.b": 1, "a.c.d": [1, 2], "e": 3}


def test_differences_name_what_one_side_lacks() -> None:
    other = {"a": {"b": 2, "c": {"d": [1, 2]}}, "f": 4}
    assert list(differences(NESTED, other)) == [("a.b", 1, 2), ("e", 3, None), ("f", None, 4)]


def test_what_is_cut_takes_emptied_groups_with_it() -> None:
    assert without(NESTED, ("a", "c", "d", "1")) == {"a": {"b": 1}, "e": 3, "empty": {}}
    assert without(NESTED, ("a", "x")) == NESTED
    assert without({1: {"x": 2}, "y": 3}, ("1", "x")) == {"y": 3}


def test_paths_lead_through_lists() -> None:
    assert holds(NESTED, ("a", "c", "d", "1"))
    assert not holds(NESTED, ("a", "c", "d", "2"))
    assert not holds(NESTED, ("a", "b", "x"))


def test_values_are_found_by_their_path() -> None:
    assert find(NESTED, ("a", "c", "d", "1")) == 2
    assert find({1: ("x", "y")}, ("1", "0")) == "x"
    assert find(NESTED, ("a", "b", "x")) is None


def test_leaves_are_changed_by_the_keys_above_them() -> None:
    found = with_leaves(NESTED, lambda path, value: f"{'.'.join(path)}={value}")
    c = {"d": ["a.c.d=1", "a.c.d=2"]}
    assert found == {"a": {"b": "a.b=1", "c": c}, "e": "e=3", "empty": {}}
