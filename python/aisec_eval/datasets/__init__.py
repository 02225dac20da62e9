"""What models are evaluated on: one source a file, all give a `Dataset`.

Lists of URLs are recorded and checked by `aisec_eval.datasets.web`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DatasetError
from .base import Dataset, Raw, build

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

__all__ = ["Dataset", "load_dataset"]


def _digits(_source: Path, split: str, _labels: Any) -> Raw:
    from .digits import read

    return read(split)


def _npz(source: Path, split: str, labels: Any) -> Raw:
    from .npz import read

    return read(source, split, labels)


def _npy(source: Path, _split: str, labels: Any) -> Raw:
    from .npy import read

    return read(source, labels)


def _parquet(source: Path, _split: str, labels: Any) -> Raw:
    from .parquet import read

    return read(source, labels)


_NAMED: dict[str, Callable[[Path, str, Any], Raw]] = {"digits": _digits}
_SUFFIXES: dict[str, Callable[[Path, str, Any], Raw]] = {
    ".npz": _npz,
    ".npy": _npy,
    ".parquet": _parquet,
    ".pq": _parquet,
}


def load_dataset(
    source: str | Path,
    *,
    split: str = "test",
    ids: tuple[int, int] | None = None,
    labels: str | Path | ArrayLike | None = None,
    shape: tuple[int, ...] | None = None,
    scale: int | None = None,
    bounds: tuple[float, float] | None = None,
    num_classes: int | None = None,
) -> Dataset:
    """Load labelled samples into memory, checked; unpacks as `x, y`.

    Args:
        source: `"digits"` (scikit-learn's handwritten digits), or a path to a `.npz` (arrays `x`
            and `y`, or `x_<split>` and `y_<split>`), `.npy` (with `labels`) or Parquet file
            (one column of arrays or one numeric column a feature, and a label column).
        split: `"train"`, `"test"` or `"all"` of a source that has splits.
        ids: `(first, one past the last)` sample of the split to keep.
        labels: the name of the label array or column (`"y"` in `.npz`, `"label"` in Parquet unless
            given); for `.npy` a path to a `.npy` file or an array of labels.
        shape: one sample's shape, for files that hold flat rows.
        scale: what integer data is divided by; unless given, the smallest of 1, 16 and 255 that
            covers the whole file.
        bounds: the input range; unless given, (0, 1), or for data outside it the range it spans.
        num_classes: number of classes; needed only if the file lacks some of them.

    Returns:
        Samples as float32 [n, *shape] in `bounds` with int64 labels [n] and fixed ids.

    Raises:
        DatasetError: missing, unreadable, empty or not labelled samples; one line that says where.
    """
    path = Path(source)
    read = _NAMED.get(str(source)) or _SUFFIXES.get(path.suffix.lower())
    if read is None:
        raise DatasetError(
            f"no dataset {str(source)!r}; give {', '.join(map(repr, _NAMED))} "
            f"or a path that ends in {', '.join(_SUFFIXES)}"
        )
    raw = read(path, split, labels)
    return build(raw, ids=ids, shape=shape, scale=scale, bounds=bounds, num_classes=num_classes)
