"""Tables of plain text, as verbs print them."""

from collections.abc import Sequence

from tabulate import tabulate


def aligned(rows: Sequence[Sequence[str]], *, num_left: int = 1) -> list[str]:
    """Return a line for each row, with columns two blanks apart and no blanks at its end.

    Args:
        rows: cells, as many in each; the heads of the columns are a row like others.
        num_left: so many columns stand to the left, those behind them to the right.
    """
    sides = ["left" if column < num_left else "right" for column in range(len(rows[0]))]
    table = tabulate(rows, tablefmt="plain", disable_numparse=True, colalign=sides)
    return table.split("\n")
