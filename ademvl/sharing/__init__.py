"""Trained adapters as folders to pass on: their card, their check, their way over the hub."""
