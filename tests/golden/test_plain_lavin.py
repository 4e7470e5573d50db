"""Protects parity of LaVIN with an independent program, with other sizes than the golden."""

from ademvl.golden.verify import verify_golden
from tests.golden.plain_lavin_cases import write_lavin, write_text
from tests.golden.plain_program import PlainProgram, save_case, write_models


def test_every_case_of_another_set_passes(tmp_path, capsys):
    program, models = PlainProgram(), tmp_path / "golden" / "models"
    tokenizer = write_text(program, models)
    write_models(program, models)
    save_case(models.parent / "pixels", {"pixels_sqa": program.pixels})
    write_lavin(program, tokenizer, tmp_path / "peers" / "any")
    status = verify_golden(tmp_path / "peers" / "any")
    printed = capsys.readouterr().out
    assert status == 0, printed
    passed = [line.split()[0] for line in printed.splitlines() if line.endswith("passed")]
    assert passed == ["A_forward_train", "B_plain_visual_adapter", "C_generate"]
