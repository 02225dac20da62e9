"""Scikit-learn's handwritten digits: 1797 images of 8x8 pixels with 17 grey levels.

Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository,
1998; the package ships it, nothing is downloaded.
"""

from __future__ import annotations

import numpy as np

from ..errors import DatasetError
from .base import Raw

_SPLITS = ("train", "test", "all")


def read(split: str) -> Raw:
    """Return the images [n, 1, 8, 8], integers 0..16; a third of each class is the test split.

    Which third is fixed: rows are ranked within their class by the raw words of the counter-based
    generator Philox, which every numpy version draws alike.
    """
    if split not in _SPLITS:
        raise DatasetError(f"digits has no split {split!r}; choose one of {', '.join(_SPLITS)}")
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise DatasetError(
            'digits comes with scikit-learn, which is missing: pip install "aisec-eval[sklearn]"'
        ) from None
    digits = load_digits()
    images = digits.images.astype(np.uint8)[:, None]
    y = digits.target.astype(np.int64)
    words = np.random.Philox(key=1797).random_raw(len(y))
    test = np.zeros(len(y), dtype=np.bool_)
    for label in range(10):
        rows = np.flatnonzero(y == label)
        test[rows[np.argsort(words[rows])[: round(len(rows) / 3)]]] = True
    rows = {"train": np.flatnonzero(~test), "test": np.flatnonzero(test)}.get(
        split, np.arange(len(y))
    )
    return Raw("digits", images[rows], y[rows], ids=rows.astype(np.int64), scale=16)
