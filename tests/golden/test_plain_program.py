"""Protects parity with an independent program, with other sizes than the golden tensors."""

from ademvl.golden.verify import verify_golden
from tests.golden.plain_program import write_set


def test_every_case_of_another_set_passes(tmp_path, capsys):
    write_set(tmp_path)
    status = verify_golden(tmp_path)
    printed = capsys.readouterr().out
    assert status == 0, printed
    passed = [line.split()[0] for line in printed.splitlines() if line.endswith("passed")]
    assert passed == [
        "A_vision",
        "B_sampler",
        "C_fusion",
        "D_weights",
        "D_cls",
        "D_nocls",
        "D_odd",
        "E_trajectory",
    ]
