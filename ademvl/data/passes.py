"""Which rows of a step go through the models together, and on which device.

Rows of like length go together, and passes hold like numbers of tokens: few long rows, or many
short ones. What a pass holds does not depend on the number of devices, so that neither do its fp32
gradients.
"""

from collections.abc import Sequence


def image_tokens(
    *, tower_tokens: int, tower_width: int, tower_blocks: int, llm_width: int, llm_layers: int
) -> int:
    """Return how many tokens of the language model take as long as an image in the tower.

    A layer of either kind multiplies a token by about 12 times the square of its width.
    """
    in_tower = tower_tokens * tower_width**2 * tower_blocks
    return round(in_tower / (llm_width**2 * llm_layers))


def divide_rows(sizes: Sequence[int], *, num_passes: int) -> list[list[int]]:
    """Divide the rows of a step into passes, the largest of which is as small as it can be.

    A pass is as large as its largest row, times its rows: padding counts.

    Args:
        sizes: tokens of each row, >= 1, with what its image counts for.
        num_passes: at most; fewer where more would not make the largest smaller.

    Returns:
        The numbers of the rows of each pass; the pass with the largest row comes first.
    """
    order = sorted(range(len(sizes)), key=lambda row: -sizes[row])
    ordered = [sizes[row] for row in order]
    low = max(ordered[0], -(-sum(ordered) // num_passes))
    high = ordered[0] * -(-len(ordered) // num_passes)
    while low < high:
        middle = (low + high) // 2
        if len(_ends(ordered, middle, most=num_passes)) <= num_passes:
            high = middle
        else:
            low = middle + 1
    ends = _ends(ordered, low, most=num_passes)
    return [order[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _ends(ordered: Sequence[int], limit: int, *, most: int) -> list[int]:
    """Fill passes up to a size, the largest rows first; return where each ends.

    With whole numbers of rows in descending order no other division has fewer passes. It is given
    up once there are more than `most`.
    """
    ends: list[int] = []
    start = 0
    while start < len(ordered) and len(ends) <= most:
        start = min(start + limit // ordered[start], len(ordered))
        ends.append(start)
    return ends


def shared_passes(
    passes: Sequence[Sequence[int]], sizes: Sequence[int], *, num_devices: int
) -> list[list[Sequence[int]]]:
    """Share passes among devices so that the busiest has little more to do than the others.

    The largest pass that is left goes to the device that has the least to do so far (Graham 1969,
    longest processing time first: at most a third above the best).

    Args:
        passes: numbers of the rows of each, as `divide_rows` gives them.
        sizes: of each row.
        num_devices: that work at the same time.

    Returns:
        The passes of each device, the largest first; there may be none.
    """
    costs = [len(numbers) * max(sizes[number] for number in numbers) for numbers in passes]
    shares: list[list[Sequence[int]]] = [[] for _ in range(num_devices)]
    loads = [0] * num_devices
    for at in sorted(range(len(passes)), key=lambda at: -costs[at]):
        device = loads.index(min(loads))
        loads[device] += costs[at]
        shares[device].append(passes[at])
    return shares
