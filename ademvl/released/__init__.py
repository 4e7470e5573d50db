"""Adapters in the form in which the authors of ADEM-VL release them: reading, writing, using."""
