"""How many cells of which class: what a text asks for."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

from branchgen.errors import BranchgenError


def requested_numbers(text: str, class_counts: Mapping[str, int], new: Collection[str] = ()) -> dict[str, int]:
    """Table of name to number of cells, as it was given.

    The text is a number, for every class; ``train``, for as many as `class_counts` (the training cells); ``new``, for
    as many of the new classes; or a JSON object of names to numbers. Raises BranchgenError for anything else; names are
    the caller's to check.
    """
    if text == "train":
        return dict(class_counts)
    if text == "new":
        if not new:
            raise BranchgenError("n_cells is 'new', but the model was never extended; give it a number, or train")
        return {name: class_counts[name] for name in new}
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    numbers = dict(value) if isinstance(value, Mapping) else dict.fromkeys(class_counts, value)
    if not all(isinstance(n, int) and not isinstance(n, bool) for n in numbers.values()):
        example = json.dumps({next(iter(class_counts)): 100}, ensure_ascii=False)
        raise BranchgenError(
            f"n_cells is {text!r}; it must be a number, the word train, or a table of class to number such as {example}"
        )
    for name, number in numbers.items():
        if number < 0:
            raise BranchgenError(f"n_cells asks for {number} cells of {name!r}; a number of cells is at least 0")
    if not sum(numbers.values()):
        raise BranchgenError("n_cells asks for no cell at all; ask for at least one")
    return numbers
