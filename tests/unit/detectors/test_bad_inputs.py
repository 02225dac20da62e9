"""What real data is like, for every detector: a result for every sample, or one clear line."""

import numpy as np
import polars as pl
import pytest

import aisec_eval as ae
from aisec_eval.detectors import LOGITS, METHODS, PROBABILITIES

METHOD = sorted(set(METHODS) - LOGITS - PROBABILITIES)
ROWS, DIM = 480, 6


def draw():
    random = np.random.default_rng(4)
    y = np.arange(ROWS) % 6
    x = random.normal(size=(ROWS, DIM)) + 3 * random.normal(size=(6, DIM))[y]
    return x.astype(np.float32), y


def spoiled(row, column, value):
    x, y = draw()
    x[row, column] = value
    return x, y


def scan(*arguments, method, **options):
    # This one has to be told the poisoned share.
    rate = 0.1 if method == "bdbench_np_exp" else None
    return ae.scan(*arguments, method=method, rate=rate, **options)


def outcome(*arguments, **options):
    """The result, or the error."""
    try:
        return scan(*arguments, **options)
    except ae.AisecError as error:
        return error


def refusal(*arguments, **options):
    with pytest.raises(ae.AisecError) as caught:
        scan(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("method", METHOD)
def test_values_that_are_not_finite_are_named(method, tmp_path):
    for value in (np.nan, np.inf, -np.inf):
        x, y = spoiled(77, 4, value)
        assert "row 77: feature 4 is not finite" in refusal(x, y, method=method)
    pl.DataFrame({"x": x, "label": y}).write_parquet(tmp_path / "x.parquet")
    message = refusal(tmp_path / "x.parquet", method=method)
    assert "row 77: feature 4 is not finite" in message
    assert message.startswith(str(tmp_path / "x.parquet"))


@pytest.mark.parametrize("method", METHOD)
def test_labels_and_features_that_are_odd_but_right(method):
    x, y = draw()
    single, constant, few = y.copy(), x.copy(), y.copy()
    single[5] = 99
    constant[:] = 1.5
    few[:] = 0
    for features, labels in (
        (x, single),
        (constant, y),
        (x, few),
        (x, 1000 * y - 7),
        (x.astype(np.float16), y),
        (np.asfortranarray(x)[::-1], y),
        (np.repeat(x, 2, axis=0)[::2], np.repeat(y, 2)[::2]),
    ):
        result = outcome(features, labels, method=method)
        if isinstance(result, ae.InputError):
            assert "\n" not in str(result)
            # Only what leaves nothing to compare is refused.
            assert features is constant or labels is few, result
            continue
        assert result.score.shape == result.flagged.shape == (ROWS,)
        assert np.isfinite(result.score).all()
        assert ((result.p_value >= 0) & (result.p_value <= 1)).all()
        assert np.array_equal(result.label, labels)


@pytest.mark.parametrize("method", METHOD)
def test_what_changes_between_passes_is_one_line(method, tmp_path):
    x, y = draw()
    path = tmp_path / "x.parquet"
    for change in ("unlink", "rewrite", "labels"):
        pl.DataFrame({"x": x, "label": y}).write_parquet(path)
        seen = []

        def between(done, _total, _note, change=change, seen=seen):
            if seen:
                return
            seen.append(done)
            if change == "unlink":
                path.unlink()
            else:
                other = y[::-1] if change == "labels" else y
                pl.DataFrame({"x": x + 1, "label": other}).write_parquet(path)

        result = outcome(path, method=method, progress=between)
        if method in ("neighbours", "deep-knn"):
            # Read once: what happens to the file afterwards does not matter.
            assert len(result.score) == ROWS
            continue
        assert isinstance(result, ae.DatasetError), result
        assert str(result).startswith(str(path))
        assert "\n" not in str(result)


@pytest.mark.parametrize("method", METHOD)
def test_labels_that_are_texts_or_of_other_number(method):
    x, y = draw()
    assert "np.unique" in refusal(x, y.astype(str), method=method)
    assert f"[{ROWS}]" in refusal(x, y[:-1], method=method)
    frame = pl.DataFrame({"x": x, "label": y.astype(str)})
    assert "expected integers" in refusal(frame, method=method)
