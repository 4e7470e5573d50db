"""Predictions before anything runs: parameters, memory, disk, arithmetic, time; and what fits."""
