"""Numbers of bytes as people read them: of disks in decimal units, of memory in binary ones."""

_UNITS = ("B", "kB", "MB", "GB", "TB")


def format_bytes(number: float) -> str:
    """Render a number of bytes with three digits, in decimal units as disks are sold."""
    for unit in _UNITS[:-1]:
        if number < 999.5:  # else it would be rounded to four digits
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:,.4g} {_UNITS[-1]}"


def gib(num_bytes: float) -> str:
    """Render bytes of memory in GiB, or MiB below one."""
    return f"{num_bytes / 2**30:.1f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.0f} MiB"
