"""What a dataset is, and the checks that every source shares."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled samples in memory; `x, y = dataset` unpacks them."""

    name: str
    x: NDArray[np.float32]
    """Inputs [n, *shape], finite, inside `bounds`."""
    y: NDArray[np.int64]
    """Labels [n] in 0..num_classes-1."""
    ids: NDArray[np.int64]
    """Row of each sample in its source [n]: fixed, whatever part of it is loaded."""
    num_classes: int
    bounds: tuple[float, float]
    lattice: Fraction | None
    """Spacing of the values where the source holds integers (1/255 for 8-bit images), else None."""

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Yield `x`, then `y`."""
        yield self.x
        yield self.y

    @cached_property
    def digest(self) -> str:
        """SHA-256 of shapes, samples, labels and ids: names what was evaluated."""
        state = hashlib.sha256()
        for array in (self.x, self.y, self.ids):
            state.update(f"{array.dtype.str}{array.shape};".encode())
            state.update(np.ascontiguousarray(array).data)
        return state.hexdigest()


@dataclass(frozen=True)
class Raw:
    """What a source holds, as it holds it: the input of `build`."""

    name: str
    x: NDArray[Any]
    y: NDArray[Any]
    ids: NDArray[np.int64] | None = None
    """Rows in the source; 0..n-1 when None."""
    scale: int | None = None
    """What the source's integers are divided by, where it is known."""


def build(
    raw: Raw,
    *,
    ids: tuple[int, int] | None = None,
    shape: tuple[int, ...] | None = None,
    scale: int | None = None,
    bounds: tuple[float, float] | None = None,
    num_classes: int | None = None,
) -> Dataset:
    """Check what a source holds and lay it out as a `Dataset`; see `load_dataset`.

    Raises:
        DatasetError: one line: what is wrong, in which row, what to do.
    """
    name, n = raw.name, _check_rank(raw)
    y, classes = _labels(name, raw.y, num_classes)
    divisor = scale if scale is not None else raw.scale
    if raw.x.dtype.kind in "iub":
        divisor = _divisor(name, raw.x, divisor)
    elif raw.x.dtype.kind != "f":
        raise DatasetError(f"{name}: x has dtype {raw.x.dtype}; expected floats or integers")
    elif scale is not None:
        raise DatasetError(f"{name}: scale={scale} is for integer data, x has {raw.x.dtype}")
    rows = _rows(name, ids, n)
    x = _samples(name, raw.x[rows], divisor, rows.start, shape)
    low, high = _bounds(name, x, bounds)
    return Dataset(
        name=name,
        x=x,
        y=y[rows],
        ids=(np.arange(n, dtype=np.int64) if raw.ids is None else raw.ids)[rows],
        num_classes=classes,
        bounds=(low, high),
        lattice=None if divisor is None else Fraction(1, divisor),
    )


def check_memory(name: str, size: int) -> None:
    """Refuse to allocate more bytes than this machine has memory, before trying."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory:
        raise DatasetError(
            f"{name}: needs {size / 2**30:.1f} GiB, this machine has {memory / 2**30:.1f} GiB; "
            "split the file"
        )


def _check_rank(raw: Raw) -> int:
    if raw.x.ndim < 2:
        raise DatasetError(f"{raw.name}: x has shape {list(raw.x.shape)}; expected [samples, ...]")
    n = len(raw.x)
    if n == 0 or raw.x.size == 0:
        raise DatasetError(f"{raw.name}: holds no samples (x has shape {list(raw.x.shape)})")
    if raw.y.shape != (n,):
        raise DatasetError(
            f"{raw.name}: {n} samples need labels of shape [{n}], got {list(raw.y.shape)}"
        )
    return n


def _labels(name: str, y: NDArray[Any], num_classes: int | None) -> tuple[NDArray[np.int64], int]:
    if y.dtype.kind not in "iu":
        raise DatasetError(
            f"{name}: labels have dtype {y.dtype}; expected integers 0..classes-1 "
            "(np.unique(labels, return_inverse=True)[1] numbers them)"
        )
    low, high = int(y.min()), int(y.max())
    if low < 0 or (num_classes is not None and high >= num_classes):
        bad = low if low < 0 else high
        row = int(np.argmax(y == bad))
        limit = f"..{num_classes - 1}" if num_classes is not None else " or more"
        raise DatasetError(f"{name}: label {bad} in row {row}; expected 0{limit}")
    present = np.unique(y)
    if num_classes is None and len(present) != high + 1:
        # `present` is sorted: the first class that is not at its own place is the gap.
        gap = int(np.argmax(present != np.arange(len(present))))
        raise DatasetError(
            f"{name}: labels reach {high} but no sample has label {gap}; number the classes from 0 "
            "without gaps, or say num_classes if they are merely absent here"
        )
    return y.astype(np.int64), high + 1 if num_classes is None else num_classes


def _divisor(name: str, x: NDArray[Any], scale: int | None) -> int:
    low, high = int(x.min()), int(x.max())
    if scale is not None:
        if isinstance(scale, bool) or not isinstance(scale, int) or scale < 1:
            raise DatasetError(f"{name}: scale={scale!r} must be an integer of at least 1")
        return scale
    if low >= 0:
        for divisor in (1, 16, 255):
            if high <= divisor:
                return divisor
    raise DatasetError(
        f"{name}: integers {low}..{high} are not 8-bit data; say what to divide them by: scale=..."
    )


def _rows(name: str, ids: tuple[int, int] | None, n: int) -> slice:
    if ids is None:
        return slice(0, n)
    try:
        first, stop = (int(i) for i in ids)
    except (TypeError, ValueError):
        raise DatasetError(f"{name}: ids={ids!r} must be (first, one past the last)") from None
    if not 0 <= first < stop <= n:
        raise DatasetError(f"{name}: ids={(first, stop)} is not a range of its {n} samples")
    return slice(first, stop)


def _samples(
    name: str,
    x: NDArray[Any],
    divisor: int | None,
    first: int,
    shape: tuple[int, ...] | None,
) -> NDArray[np.float32]:
    check_memory(name, x.size * 4)
    with np.errstate(over="ignore"):
        out = x.astype(np.float32)
    if divisor is not None:
        # One correctly rounded division: the float32 nearest to the lattice point.
        out /= np.float32(divisor)
    finite = np.isfinite(out).reshape(len(out), -1).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        values = x[row][~np.isfinite(out[row])]
        raise DatasetError(
            f"{name}: x holds {values.flat[0]} in row {first + row}; every value must be a finite "
            "float32; remove or repair the sample"
        )
    if shape is not None:
        if any(side < 1 for side in shape) or int(np.prod(shape)) != out[0].size:
            raise DatasetError(
                f"{name}: a sample of shape {list(out.shape[1:])} does not fill {list(shape)}"
            )
        out = out.reshape(len(out), *shape)
    return np.ascontiguousarray(out)


def _bounds(
    name: str, x: NDArray[np.float32], bounds: tuple[float, float] | None
) -> tuple[float, float]:
    low, high = float(x.min()), float(x.max())
    if bounds is None:
        if low >= 0 and high <= 1:
            return (0.0, 1.0)
        return (low, high if high > low else low + 1)
    lower, upper = float(bounds[0]), float(bounds[1])
    if not lower < upper or low < lower or high > upper:
        raise DatasetError(
            f"{name}: values span [{low:g}, {high:g}], which bounds={(lower, upper)} do not hold"
        )
    return (lower, upper)
