"""Protects the table of GPUs and how a card's name leads to its row."""

import pytest

from ademvl.errors import SettingsError
from ademvl.planning import devices
from ademvl.planning.devices import gpu_by_name, known_gpus, present_gpu


@pytest.mark.parametrize("name", ["A100-80GB", "A800", "H100", "H200", "4090", "T4", "V100"])
def test_common_names_are_known(name):
    assert gpu_by_name(name.lower()) is gpu_by_name(name)


def test_every_gpu_names_its_source_and_has_a_rate_in_fp32():
    for gpu in known_gpus():
        assert gpu.source
        assert 0 < gpu.rate("fp32") < gpu.rate("fp16")
        assert gpu.memory_bytes > 10 * 2**30


def test_no_two_gpus_share_a_name():
    names = [name for gpu in known_gpus() for name in gpu.names]
    assert len(set(names)) == len(names)


# As nvidia-smi --query-gpu=name prints them.
@pytest.mark.parametrize(
    ("printed", "row"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100-80GB"),
        ("NVIDIA A100-SXM4-40GB", "A100-40GB"),
        ("NVIDIA A100 80GB PCIe", "A100-80GB"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100-PCIe"),
        ("NVIDIA GeForce RTX 4090", "4090"),
        ("Tesla V100-SXM2-32GB", "V100-32GB"),
        ("Tesla T4", "T4"),
        ("NVIDIA L40S", "L40S"),
    ],
)
def test_a_present_card_is_recognized(monkeypatch, printed, row):
    monkeypatch.setattr("ademvl.machine.hardware.gpu_names", lambda: (printed,))
    found = present_gpu()
    assert found is not None
    assert found.name == row


def test_without_a_card_there_is_none(monkeypatch):
    monkeypatch.setattr("ademvl.machine.hardware.gpu_names", tuple)
    assert present_gpu() is None


def test_unknown_name_lists_those_that_are_known():
    with pytest.raises(SettingsError, match=r"--gpu: 'Z9' is not in the table; known: A100-40GB"):
        gpu_by_name("Z9")


def test_precision_that_the_card_lacks_is_refused():
    with pytest.raises(SettingsError, match="bf16 is not computed by the matrix units of T4"):
        gpu_by_name("T4").rate("bf16")
    assert devices.GPUS_FILE.is_file()
