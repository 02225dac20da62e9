"""Checks of the arrays every engine takes; each refusal is one line that names the fix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .errors import InputError
from .threats import Box, Tabular

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .threats import ThreatModel


class Classifier(Protocol):
    """What the checks read of a model."""

    input_shape: tuple[int, ...]
    num_classes: int


@dataclass(frozen=True)
class Samples:
    """Checked inputs, labels and ids, contiguous and in the order given."""

    x: NDArray[np.float32]
    """Inputs [n, *input_shape], finite and inside the threat model's input range."""
    y: NDArray[np.int64]
    """Labels [n] in 0..num_classes-1."""
    ids: NDArray[np.int64]
    """Distinct non-negative sample ids [n]; they key the random numbers and the records."""

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: NDArray[np.int64]) -> Samples:
        """Return some of the samples."""
        return Samples(self.x[rows], self.y[rows], self.ids[rows])


def check_samples(
    model: Classifier,
    x: Any,
    y: Any,
    threat: ThreatModel | None = None,
    sample_ids: Any = None,
) -> Samples:
    """Check `x`, `y` and `sample_ids` against the model and the threat model.

    Args:
        model: gives the sample shape and the number of classes.
        x: inputs [n, *input_shape], numpy or JAX; float32, or a float type whose values are
            float32 numbers exactly.
        y: integer labels [n].
        threat: every input must lie inside its bounds (for `Box`, between its corners).
        sample_ids: distinct integers >= 0 [n]; 0..n-1 when None.

    Raises:
        InputError: what is wrong, where, and what to pass instead.
    """
    inputs = check_inputs(x, tuple(model.input_shape))
    if threat is not None:
        check_range(inputs, threat)
    labels = check_labels(y, len(inputs), model.num_classes)
    return Samples(inputs, labels, check_ids(sample_ids, len(inputs)))


def check_inputs(x: Any, input_shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return `x` as finite, contiguous float32 [n, *input_shape] with n >= 1."""
    array = _array("x", x)
    expected = f"[n{''.join(f', {d}' for d in input_shape)}]"
    if array.shape[1:] != input_shape or array.ndim != len(input_shape) + 1:
        hint = ""
        if array.shape == input_shape:
            hint = "; a single sample needs a batch axis: x[None]"
        elif array.ndim >= 1 and np.prod(array.shape[1:]) == np.prod(input_shape):
            hint = f"; if only the layout differs use x.reshape(-1{_commas(input_shape)})"
        raise InputError(f"x has shape {list(array.shape)}, the model takes {expected}{hint}")
    if len(array) == 0:
        raise InputError("x holds no samples; pass at least one")
    if array.dtype.kind in "iub":
        raise InputError(
            f"x has dtype {array.dtype}, expected float32 in the model's input range; "
            "for 8-bit images pass x.astype(np.float32) / 255"
        )
    if array.dtype.kind != "f":
        raise InputError(f"x has dtype {array.dtype}, expected float32")
    with np.errstate(over="ignore"):
        inputs = np.ascontiguousarray(array, dtype=np.float32)
    finite = np.isfinite(array)
    if not finite.all():
        row, position = _first(~finite)
        raise InputError(
            f"x[{row}] is {array[(row, *position)]} at {list(position)}; every value must be finite"
        )
    if array.dtype != np.float32 and not np.array_equal(inputs, array):
        raise InputError(
            f"x has dtype {array.dtype} and values that are not float32 numbers; "
            "round them yourself: x.astype(np.float32)"
        )
    return inputs


def check_range(x: NDArray[np.float32], threat: ThreatModel) -> None:
    """Refuse inputs outside the threat model's bounds; a `Box` must have the sample's shape."""
    lower, upper = input_range(threat)
    if isinstance(threat, Box | Tabular) and threat.lower.shape != x.shape[1:]:
        what = "box has shape" if isinstance(threat, Box) else "features fill columns"
        raise InputError(
            f"the {what} {list(threat.lower.shape)}, one sample has {list(x.shape[1:])}"
        )
    outside = (x < lower) | (x > upper)
    if outside.any():
        row, position = _first(outside)
        low, high = (float(np.broadcast_to(b, x.shape[1:])[position]) for b in (lower, upper))
        fix = (
            "every sample must lie inside the box"
            if isinstance(threat, Box)
            else "widen the feature's range"
            if isinstance(threat, Tabular)
            else "scale the data, or give the threat model its range: "
            f"bounds=({float(x.min())!r}, {float(x.max())!r}) covers it"
        )
        raise InputError(
            f"x[{row}] is {float(x[(row, *position)])!r} at {list(position)}, "
            f"outside [{low!r}, {high!r}]; {fix}"
        )
    threat.check_inputs(x)


def input_range(threat: ThreatModel) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return lowest and highest input as float64: 0-d; of `Box` and `Tabular` each input's."""
    if isinstance(threat, Box | Tabular):
        return threat.lower, threat.upper
    return np.asarray(threat.bounds[0]), np.asarray(threat.bounds[1])


def check_labels(y: Any, n: int, num_classes: int) -> NDArray[np.int64]:
    """Return `y` as int64 [n] with values in 0..num_classes-1."""
    array = _array("y", y)
    if array.shape != (n,):
        raise InputError(f"y has shape {list(array.shape)}, expected one label a sample: [{n}]")
    if array.dtype.kind not in "iu":
        raise InputError(f"y has dtype {array.dtype}, expected integers; pass y.astype(np.int64)")
    bad = (array < 0) | (array >= num_classes)
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(f"y[{row}] is {array[row]}, the model has classes 0..{num_classes - 1}")
    return np.ascontiguousarray(array, dtype=np.int64)


def check_ids(sample_ids: Any, n: int) -> NDArray[np.int64]:
    """Return ids as distinct non-negative int64 [n]; 0..n-1 when None."""
    if sample_ids is None:
        return np.arange(n, dtype=np.int64)
    array = _array("sample_ids", sample_ids)
    if array.shape != (n,) or array.dtype.kind not in "iu":
        raise InputError(
            f"sample_ids has shape {list(array.shape)} and dtype {array.dtype}, "
            f"expected {n} integers"
        )
    if array.min() < 0 or array.max() > np.iinfo(np.int64).max:
        raise InputError(f"sample_ids must be int64 numbers >= 0, got {array.min()}")
    ids = np.ascontiguousarray(array, dtype=np.int64)
    unique, counts = np.unique(ids, return_counts=True)
    if len(unique) != n:
        raise InputError(
            f"sample_ids holds {unique[counts > 1][0]} more than once; ids must be distinct"
        )
    return ids


def check_count(name: str, value: Any, *, minimum: int = 1) -> int:
    """Return `value` as an int that is at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < minimum:
        raise InputError(f"{name}={value!r} must be an integer of at least {minimum}")
    return int(value)


def check_seed(seed: Any) -> int:
    """Return `seed` as an int in 0..2**64-1."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**64:
        raise InputError(f"seed={seed!r} must be an integer from 0 to 2**64 - 1")
    return int(seed)


def _array(name: str, value: Any) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise InputError(f"{name} is not an array: {' '.join(str(error).split())}") from None
    if array.dtype == object:
        raise InputError(f"{name} is not a rectangular array of numbers")
    return array


def _first(mask: NDArray[np.bool_]) -> tuple[int, tuple[int, ...]]:
    """Return row and position inside the row of the first True."""
    row, *position = np.unravel_index(int(np.argmax(mask)), mask.shape)
    return int(row), tuple(int(p) for p in position)


def _commas(shape: tuple[int, ...]) -> str:
    return "".join(f", {d}" for d in shape)
