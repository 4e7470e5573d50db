"""ADEM-VL reproduced: a frozen LLaMA and a frozen CLIP joined by about 4.5 M trained parameters."""

__version__ = "0.1.0"
