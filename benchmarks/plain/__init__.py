"""ADEM-VL, MemVP and LaVIN in the manner of their authors' code, to be timed beside the package.

Written from the formulas in docs/methods.md, and plain: every layer's projections apart, a picture
encoded for every row, a black one where there is none, no output left out. It shares no code with
the package and gives the recorded losses and gradients of the released programs (`golden.py`).
"""
