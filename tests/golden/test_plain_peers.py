"""Protects parity of other methods with independent programs, with other sizes than the golden."""

import pytest

from ademvl.golden.verify import verify_golden
from tests.golden.plain_flamingo import write_flamingo
from tests.golden.plain_program import PlainProgram, save_case, write_models
from tests.golden.plain_vl_adapter import write_vl_adapter

SETS = {
    "flamingo": (write_flamingo, ["A_perceiver", "B_gated_block", "C_forward"]),
    "vl_adapter": (write_vl_adapter, ["A_vlbart", "B_adapter_with_norms"]),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder, program = tmp_path_factory.mktemp("sets"), PlainProgram()
    write_models(program, folder / "golden" / "models")
    save_case(folder / "golden" / "pixels", {"pixels_sqa": program.pixels})
    for name, (write, _) in SETS.items():
        write(program, folder / "peers" / f"any_{name}")
    return folder


@pytest.mark.parametrize("name", SETS)
def test_every_case_of_another_set_passes(name, home, capsys):
    status = verify_golden(home / "peers" / f"any_{name}")
    printed = capsys.readouterr().out
    assert status == 0, printed
    passed = [line.split()[0] for line in printed.splitlines() if line.endswith("passed")]
    assert passed == SETS[name][1]


def test_a_folder_of_methods_is_checked_whole(home, capsys):
    assert verify_golden(home / "peers") == 0
    lines = capsys.readouterr().out.splitlines()
    passed = [line.split()[0] for line in lines if line.endswith("passed")]
    expected = [f"any_{name}/{case}" for name, (_, cases) in SETS.items() for case in cases]
    assert passed == expected
    assert "any_vl_adapter/A_vlbart: not covered: BART's attention" in "\n".join(lines)
