"""Pixels come out as they went in; changes are magnified as their captions say."""

from __future__ import annotations

import base64
import re
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aisec_eval.report import png
from aisec_eval.report.pictures import MAX_BARS, image, magnification, signed, tone, triptych


def decode(data: bytes) -> np.ndarray:
    """Decode what `png.encode` writes, by the specification: every checksum is checked."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = [], 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        (checksum,) = struct.unpack(">I", data[at + 8 + length : at + 12 + length])
        assert zlib.crc32(kind + body) == checksum
        chunks.append((kind, body))
        at += 12 + length
    assert [kind for kind, _ in chunks] == [b"IHDR", b"IDAT", b"IEND"]
    width, height, depth, colour, *rest = struct.unpack(">IIBBBBB", chunks[0][1])
    assert (depth, rest) == (8, [0, 0, 0])
    channels = {0: 1, 2: 3}[colour]
    lines = np.frombuffer(zlib.decompress(chunks[1][1]), np.uint8).reshape(height, -1)
    assert not lines[:, 0].any()
    pixels = lines[:, 1:].reshape(height, width, channels)
    return pixels[:, :, 0] if channels == 1 else pixels


sides = st.integers(1, 9)


@given(
    st.tuples(sides, sides).flatmap(lambda s: arrays(np.uint8, s))
    | st.tuples(sides, sides, st.just(3)).flatmap(lambda s: arrays(np.uint8, s))
)
def test_png_round_trip(pixels: np.ndarray) -> None:
    assert np.array_equal(decode(png.encode(pixels)), pixels)


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((2, 2))] + [np.zeros(shape, np.uint8) for shape in ((4,), (2, 2, 4), (0, 2))],
)
def test_png_refuses_what_is_not_an_image(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected uint8|no pixels"):
        png.encode(pixels)


def test_image_layouts() -> None:
    x = np.arange(3 * 4 * 5, dtype=np.float32).reshape(3, 4, 5)
    plane = image(x)
    assert plane is not None
    assert plane.shape == (4, 5, 3)
    assert np.array_equal(plane[:, :, 1], x[1])
    assert np.array_equal(image(np.moveaxis(x, 0, -1)), plane)
    assert np.array_equal(image(x[:1]), x[0])
    assert np.array_equal(image(x[0]), x[0])
    for shape in ((7,), (2, 4, 5), (1, 1, 9), (4, 5, 6), (2, 3, 4, 5), ()):
        assert image(np.zeros(shape, np.float32)) is None


@pytest.mark.parametrize(
    ("largest", "span", "factor"),
    [(0.1, 1, 5), (8 / 255, 1, 10), (0.05, 1, 10), (1 / 16, 1, 5), (0.5, 1, 1), (0.9, 1, 1),
     (8, 255, 10), (0.0, 1, 1), (0.0001, 1, 5000), (np.nan, 1, 1), (np.inf, 1, 1)],
)  # fmt: skip
def test_magnification(largest: float, span: float, factor: float) -> None:
    assert magnification(np.array([largest, 0.0]), span) == pytest.approx(factor)
    if 0 < largest <= span / 2:
        assert factor * largest <= span / 2 * (1 + 1e-6) < 2.5 * factor * largest * (1 + 1e-6)


def test_tone_and_sign() -> None:
    assert tone(np.array([[-1.0, 0.0, 0.5, 1.0, 2.0]]), (0.0, 1.0)).tolist() == [
        [0, 0, 128, 255, 255]
    ]
    assert tone(np.array([[0.0, 255.0]]), (0.0, 255.0)).tolist() == [[0, 255]]
    less, none, more = signed(np.array([[-0.5, 0.0, 0.5]]))[0].astype(int)
    assert less[2] > less[0] + 100
    assert more[0] > more[2] + 100
    assert none.min() > 240
    rgb = signed(np.array([[[-0.5, 0.0, 0.5]]]))
    assert rgb.tolist() == [[[0, 128, 255]]]


def pixels_of(element: object) -> np.ndarray:
    found = re.search(r"data:image/png;base64,([A-Za-z0-9+/=]+)", element.render())
    assert found is not None
    return decode(base64.b64decode(found[1]))


def test_triptych_draws_the_images_it_was_given() -> None:
    clean = np.linspace(0, 1, 16, dtype=np.float32).reshape(1, 4, 4)
    adversarial = clean.copy()
    adversarial[0, 1, 2] -= np.float32(0.1)
    (first, second, third), factor = triptych(clean, adversarial, (0.0, 1.0), "sample 7")
    assert factor == 5
    assert np.array_equal(pixels_of(first), np.rint(clean[0].astype(np.float64) * 255))
    differs = np.argwhere(pixels_of(first) != pixels_of(second))
    assert differs.tolist() == [[1, 2]]
    changed = np.argwhere((pixels_of(third) != [247, 247, 247]).any(-1))
    assert changed.tolist() == [[1, 2]]
    assert 'alt="change of sample 7, times 5"' in third.render()


def test_what_is_no_image_becomes_bars_of_what_moved_most() -> None:
    clean = np.zeros(MAX_BARS * 3, np.float32)
    adversarial = clean.copy()
    adversarial[[5, 70, 100]] = [0.2, -0.2, 0.1]
    pictures, factor = triptych(clean, adversarial, (-1.0, 1.0), "sample 0")
    assert factor == 5
    markup = [picture.render() for picture in pictures]
    assert all(m.count("<rect") == MAX_BARS for m in markup)
    assert markup[2].count('class="less"') == 1
    assert f"{MAX_BARS} most changed of {MAX_BARS * 3}" in markup[0]
    heights = [float(h) for h in re.findall(r'height="([0-9.]+)"', markup[2])]
    assert sorted(heights)[-3:] == pytest.approx([25, 50, 50], abs=0.01)
