"""Measurements of machine and model: real steps with random weights of a run's shapes."""
