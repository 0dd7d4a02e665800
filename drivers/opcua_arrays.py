"""One element of an array or of a matrix, as OPC UA sends them: a row of elements and, of a matrix, how many there are in each dimension.

The last dimension is counted first (OPC 10000-6, 5.2.2.16).
"""

from __future__ import annotations

from collections.abc import Sequence


def element_of(elements: Sequence[object], dimensions: Sequence[int] | None, index: tuple[int, ...] | None) -> tuple[object, str]:
    """The element at `index` (None: the value as a whole), and what is wrong, beginning with the status code a server would give.

    `dimensions`: as they were sent, None for none.
    """
    wrong = misfit(elements, dimensions)
    if wrong:
        return None, wrong
    sizes = dimensions if dimensions and len(dimensions) > 1 else [len(elements)]
    if index is None:
        return elements, "" if len(sizes) == 1 else f"BadTypeMismatch: a matrix of {_named(sizes)}: {_needed(sizes)}"
    what = f"an array of {len(elements)}" if len(sizes) == 1 else f"a matrix of {_named(sizes)}"
    if len(index) != len(sizes):
        return None, f"BadTypeMismatch: {what}: {_needed(sizes)}, it has one of {len(index)}"
    number = 0
    for part, size in zip(index, sizes, strict=True):
        if part >= size:
            return None, f"BadIndexRangeNoData: {what} has no index {','.join(str(part) for part in index)}"
        number = number * size + part
    return elements[number], ""


def index_of(number: int, sizes: Sequence[int]) -> tuple[int, ...]:
    """Where the element stands that is the `number`th of the row."""
    parts: list[int] = []
    for size in reversed(sizes):
        number, part = divmod(number, size)
        parts.insert(0, part)
    return tuple(parts)


def misfit(elements: Sequence[object], dimensions: Sequence[int] | None) -> str:
    """Why the dimensions cannot be those of as many elements; empty: they can."""
    count = len(elements)
    if not dimensions or len(dimensions) < 2 or (count == 0 and 0 in dimensions):
        return ""
    product = 1
    for size in dimensions:
        product *= size
        if not 0 < product <= count:
            # Given up early: what a server can promise has a million digits.
            break
    return "" if product == count else f"BadDecodingError: {count} elements for a matrix of {_named(dimensions)}"


def _named(sizes: Sequence[int]) -> str:
    return " x ".join(str(size) for size in sizes[:6]) + (" ..." if len(sizes) > 6 else "")


def _needed(sizes: Sequence[int]) -> str:
    if len(sizes) == 1:
        return "the tag needs an index of one number"
    example = ", ".join(["0"] * min(len(sizes), 6)) + (", ..." if len(sizes) > 6 else "")
    return f"the tag needs an index of {len(sizes)} numbers, such as [{example}]"
