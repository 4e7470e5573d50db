"""Recomputing golden cases: numbers and strings that the reference implementation produced."""
