"""Protects what counts as free memory: the machine's, or a control group's limit."""

from ademvl.machine.free_memory import cgroup_free_bytes, free_host_memory


def _cgroup(root, **files):
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="ascii")
    return root


def test_host_has_some_free_memory():
    assert free_host_memory().bytes > 0


def test_limit_of_a_container_counts(tmp_path):
    root = _cgroup(tmp_path, **{"memory.max": "1000\n", "memory.current": "400\n"})
    assert cgroup_free_bytes(root) == 600


def test_limit_of_the_first_version_counts(tmp_path):
    root = _cgroup(
        tmp_path,
        **{
            "memory__memory.limit_in_bytes": "1000\n",
            "memory__memory.usage_in_bytes": "1200\n",
        },
    )
    assert cgroup_free_bytes(root) == 0


def test_no_limit_is_no_limit(tmp_path):
    assert cgroup_free_bytes(tmp_path) is None
    assert cgroup_free_bytes(_cgroup(tmp_path, **{"memory.max": "max\n"})) is None
