"""Einstein sums of one or two terms, as transposes around one product of matrices."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .builder import NotLowerable, Value
from .onnx_network import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .emit import Emitter
    from .onnx_network import Step


def einsum(e: Emitter, step: Step, _opset: int, *terms: Any) -> Any:
    """Lower an Einstein sum where every letter stands once in a term.

    Letters of both terms and the output are a stack of products, letters of both terms alone are
    summed over, and those of one term alone are rows or columns.
    """
    text = str(step.attrs["equation"]).replace(" ", "")
    left, arrow, output = text.partition("->")
    subscripts = left.split(",")
    if not arrow:
        letters = "".join(subscripts)
        output = "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    words = [*subscripts, output]
    if "." in text or len(terms) > 2 or any(len(set(word)) < len(word) for word in words):
        raise NotLowerable(f"the sum {printable(text, 60)!r}")
    if len(subscripts) != len(terms):
        raise ValueError(f"{len(terms)} terms do not fit {text!r}")
    sizes: dict[str, int] = {}
    for word, term in zip(subscripts, terms, strict=True):
        if len(word) != len(np.shape(term) if not isinstance(term, Value) else term.shape):
            raise ValueError(f"a term does not have the axes of {word!r}")
        for letter, size in zip(word, term.shape, strict=True):
            if sizes.setdefault(letter, size) != size:
                raise ValueError(f"axis {letter!r} has more than one size")
    if not set(output) <= set(sizes):
        raise ValueError(f"the output of {text!r} has an axis of its own")
    reduced = [
        _summed(e, term, word, set(output).union(*(w for w in subscripts if w is not word)))
        for word, term in zip(subscripts, terms, strict=True)
    ]
    if len(reduced) == 1:
        return _ordered(e, *reduced[0], output)
    (a, first), (b, second) = reduced
    both = [c for c in first if c in second]
    stack = [c for c in both if c in output]
    inner = [c for c in both if c not in output]
    rows, columns = ([c for c in word if c not in both] for word in (first, second))

    def grouped(term: Any, word: str, *groups: Sequence[str]) -> Any:
        ordered = _ordered(e, term, word, "".join(c for group in groups for c in group))
        shape = [math.prod(sizes[c] for c in group) for group in groups]
        return e.reshape(ordered, shape) if isinstance(ordered, Value) else ordered.reshape(shape)

    product = e.matmul(
        grouped(a, first, stack, rows, inner), grouped(b, second, stack, inner, columns)
    )
    letters = "".join((*stack, *rows, *columns))
    return _ordered(e, e.reshape(product, [sizes[c] for c in letters]), letters, output)


def _summed(e: Emitter, term: Any, word: str, kept: set[str]) -> tuple[Any, str]:
    """Sum a term over the axes that nothing else has."""
    gone = [axis for axis, letter in enumerate(word) if letter not in kept]
    left = "".join(letter for letter in word if letter in kept)
    if not gone:
        return term, left
    if isinstance(term, Value):
        return e.reduce("sum", term, gone, False), left
    return np.asarray(term).sum(axis=tuple(gone)), left


def _ordered(e: Emitter, term: Any, word: str, wanted: str) -> Any:
    order = [word.index(letter) for letter in wanted]
    return e.transpose(term, order) if isinstance(term, Value) else np.transpose(term, order)
