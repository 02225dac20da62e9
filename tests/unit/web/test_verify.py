"""Three verdicts, and columns of hashes that are not what they are called."""

import base64
import hashlib
import io

import numpy as np
import polars as pl
import pytest
from PIL import Image

from aisec_eval._core import blake3
from aisec_eval.datasets.web import build_manifest, load_manifest, verify
from aisec_eval.datasets.web.columns import guess, normal
from aisec_eval.errors import DatasetError, InputError

from .test_manifest import picture, png


@pytest.fixture
def recorded(server, options):
    """Twenty images, as they were."""
    server.files |= {f"/{i}.png": png(picture(i, 64)) for i in range(20)}
    return build_manifest([f"{server.url}/{i}.png" for i in range(20)], fetch=options)


def test_verdicts(server, options, recorded, tmp_path):
    server.files["/1.png"] = png(picture(1, 64), "JPEG", quality=70)
    server.files["/2.png"] = png(picture(99, 64))
    server.files["/3.png"] = b"<html>for sale</html>"
    del server.files["/4.png"]
    found = verify(recorded, tmp_path / "v.parquet", root=recorded.root, fetch=options)
    verdicts = found.frame["verdict"].to_list()
    assert verdicts[:6] == [
        "identical", "similar", "changed", "changed", "unreachable", "identical",
    ]  # fmt: skip
    assert found.counts == {
        "identical": 16, "similar": 1, "changed": 2, "unreachable": 1, "unrecorded": 0,
    }  # fmt: skip
    assert found.frame["distance"].to_list()[0] == 0
    assert found.frame["error"].to_list()[4] == "HTTP 404"
    assert found.info["hash_column"]["wrong"] is False
    assert found.kept.height == 16
    assert pl.read_parquet(tmp_path / "v.parquet").equals(found.frame)
    assert not (tmp_path / "v.parquet.part").exists()
    strict = verify(recorded, most_bits=0, fetch=options)
    assert strict.counts["identical"] == 16


def table(recorded, server, column, value):
    files = [server.files[f"/{i}.png"] for i in range(20)]
    urls = recorded.frame["url"]
    return pl.DataFrame(
        {"url": urls, column: [value(url, data) for url, data in zip(urls, files, strict=True)]}
    )


@pytest.mark.parametrize(
    ("column", "value", "algorithm"),
    [
        ("md5", lambda _, d: hashlib.md5(d).hexdigest(), "md5"),
        ("hash", lambda _, d: hashlib.sha1(d).hexdigest().upper(), "sha1"),
        ("SHA-512", lambda _, d: hashlib.sha512(d).hexdigest(), "sha512"),
        ("sha256", lambda _, d: base64.b64encode(hashlib.sha256(d).digest()).decode(), "sha256"),
        ("hash", lambda _, d: "sha256:" + hashlib.sha256(d).hexdigest(), "sha256"),
        ("BLAKE3", lambda _, d: blake3(d), "blake3"),
        # 256 bits under a name that says nothing: what most bodies have.
        ("hash", lambda _, d: blake3(d), "blake3"),
        ("hash", lambda _, d: hashlib.blake2s(d).hexdigest(), "blake2s"),
    ],
)
def test_other_hashes(server, options, recorded, column, value, algorithm):
    found = verify(table(recorded, server, column, value), fetch=options)
    assert found.counts["identical"] == 20
    assert found.info["hash_column"]["algorithm"] == algorithm
    assert ("note" in found.info["hash_column"]) == (algorithm in ("md5", "sha1"))


@pytest.mark.parametrize(
    ("value", "instead", "verdict"),
    [
        (lambda _, d: hashlib.sha1(d).hexdigest(), "sha1", "identical"),
        (lambda _, d: hashlib.blake2s(d).hexdigest(), "blake2s", "identical"),
        (lambda _, d: blake3(d), "blake3", "identical"),
        (lambda _, d: hashlib.md5(d).hexdigest(), "md5", "identical"),
        (lambda u, _: hashlib.sha256(u.encode()).hexdigest(), "sha256 of the URL", "unrecorded"),
        (lambda u, d: hashlib.sha256(d + u.encode()).hexdigest(), None, "unrecorded"),
    ],
)
def test_a_wrong_column(server, options, recorded, value, instead, verdict):
    found = verify(table(recorded, server, "sha256", value), fetch=options)
    finding = found.info["hash_column"]
    assert (finding["wrong"], finding["instead"]) == (True, instead)
    assert (finding["compared"], finding["differ"]) == (20, 20)
    assert "20 of 20 differ" in finding["note"]
    assert found.counts[verdict] == 20


def test_a_wrong_column_beside_perceptual_hashes(server, options, recorded):
    wrong = recorded.frame.with_columns(sha256=pl.lit("ab" * 32))
    server.files["/2.png"] = png(picture(99, 64))
    found = verify(wrong, fetch=options)
    assert found.counts["similar"] == 19
    assert found.frame["verdict"][2] == "changed"


def test_much_drift_is_not_a_wrong_column(server, options, recorded):
    for i in range(17):
        server.files[f"/{i}.png"] = bytes(np.arange(10, dtype=np.uint8) + i)
    found = verify(recorded, fetch=options)
    assert found.info["hash_column"]["wrong"] is False
    assert found.counts["changed"] == 17


def test_digest_of_blake3():
    """Of nothing and of a zero byte, as published with the algorithm."""
    assert blake3(b"") == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert blake3(bytes([0])) == "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213"


def test_few_bodies_tell_which_hash_of_one_length_it_is(server, options, recorded):
    """Three are too few to call a column wrong, and enough where its name says nothing."""
    frame = table(recorded, server, "hash", lambda _, d: blake3(d)).head(3)
    found = verify(frame, fetch=options)
    assert found.counts["identical"] == 3
    assert found.info["hash_column"]["algorithm"] == "blake3"
    named = verify(frame.rename({"hash": "sha256"}), fetch=options)
    assert named.counts["changed"] == 3


def brightness(data):
    """A model of two numbers: how bright an image is, and how dark."""
    if not data.startswith((b"\x89PNG", b"\xff\xd8")):
        return None
    image = Image.open(io.BytesIO(data)).convert("L")
    mean = np.asarray(image, dtype=np.float64).mean() / 255
    return [mean, 1 - mean]


def test_embeddings_tell_what_perceptual_hashes_do_not(server, options, tmp_path):
    pixels = picture(0, 64)
    dark = (pixels // 8).astype(np.uint8)
    server.files |= {f"/{name}": png(pixels) for name in ("kept", "squeezed", "darkened", "sold")}
    server.files["/text"] = b"text"
    urls = [f"{server.url}/{n}" for n in ("kept", "squeezed", "darkened", "sold", "text")]
    manifest = build_manifest(urls, tmp_path / "m.jsonl", embed=brightness, fetch=options)
    assert manifest.frame["embedding"].null_count() == 1
    assert load_manifest(tmp_path / "m.jsonl").root == manifest.root
    plain = build_manifest(urls, fetch=options)
    assert plain.root != manifest.root
    assert plain.leaf(4) == manifest.leaf(4)

    server.files["/squeezed"] = png(pixels, "JPEG", quality=80)
    server.files["/darkened"] = png(dark)
    server.files["/sold"] = b"<html>for sale</html>"
    found = verify(manifest, embed=brightness, root=manifest.root, fetch=options)
    assert found.frame["verdict"].to_list() == [
        "identical", "similar", "changed", "changed", "identical",
    ]  # fmt: skip
    assert found.frame["distance"][2] <= 8, "its frequencies are the same"
    one, two = np.array(brightness(png(pixels))), np.array(brightness(png(dark)))
    expected = one @ two / np.linalg.norm(one) / np.linalg.norm(two)
    assert found.frame["cosine"][2] == pytest.approx(expected, abs=1e-6)
    assert found.frame["cosine"][3] is None
    assert verify(manifest, fetch=options).frame["verdict"][2] == "similar"
    near = verify(manifest, embed=brightness, least_cosine=-1, fetch=options)
    assert near.frame["verdict"][2] == "similar"
    # Embeddings decide where there is no perceptual hash.
    alone = build_manifest(urls[:1], embed=brightness, perceptual=False, fetch=options)
    server.files["/kept"] = png(pixels, "JPEG", quality=80)
    assert verify(alone, embed=brightness, fetch=options).counts["similar"] == 1


@pytest.mark.parametrize(
    ("embed", "match"),
    [
        (3, "function of bytes"),
        (lambda _: [0.0, 0.0], "not all 0"),
        (lambda _: [np.nan], "finite"),
        (lambda _: [], "numbers"),
        (lambda _: 1 / 0, "ZeroDivisionError"),
        (lambda _: ["a"], "ValueError"),
    ],
)
def test_embeddings_that_do_not_fit(server, options, embed, match):
    server.files["/a"] = b"a"
    with pytest.raises(InputError, match=match) as error:
        build_manifest([f"{server.url}/a"], embed=embed, fetch=options)
    assert "\n" not in str(error.value)


def test_damaged_embeddings_are_refused(server, options, tmp_path):
    server.files["/a"] = png(picture(0, 64))
    frame = build_manifest([f"{server.url}/a"], embed=brightness, fetch=options).frame
    for wrong in ("nonsense", base64.b64encode(np.full(2, 9, "<f4").tobytes()).decode()):
        frame.with_columns(embedding=pl.lit(wrong)).write_parquet(tmp_path / "m.parquet")
        with pytest.raises(DatasetError, match="row 0"):
            load_manifest(tmp_path / "m.parquet")
    other = verify(frame, embed=lambda _: [1.0, 0.0, 0.0], fetch=options)
    assert other.frame["cosine"].to_list() == [None], "another model's"


def test_what_was_not_recorded(options, recorded):
    frame = recorded.frame.with_columns(
        sha256=pl.when(pl.int_range(pl.len()) < 2).then(None).otherwise(pl.col("sha256")),
        phash=pl.when(pl.int_range(pl.len()) < 1).then(None).otherwise(pl.col("phash")),
    )
    verdicts = verify(frame, fetch=options).frame["verdict"].to_list()
    assert verdicts[:3] == ["unrecorded", "similar", "identical"]


def test_what_does_not_fit(options, recorded, tmp_path):
    for frame, arguments, match in [
        (recorded, {"root": "0" * 64}, "it was changed"),
        (recorded.frame.drop("sha256"), {"hash_column": "sha256"}, "none of the text columns"),
        (recorded.frame.drop("sha256", "phash"), {}, "name its column"),
        (recorded.frame.rename({"url": "link"}), {}, "a column url"),
        (recorded.frame.with_columns(url=pl.lit(None, pl.String)), {}, "column url"),
        (recorded.frame.select("url", hash=pl.lit("xyz")), {}, "known hash"),
        (recorded, {"most_bits": 99}, "most_bits"),
        (recorded, {"least_cosine": 2}, "least_cosine"),
        (recorded, {"embed": brightness}, "no embeddings"),
        (recorded.frame.select("url", "sha256"), {"root": "0" * 64}, "only a manifest"),
    ]:
        with pytest.raises(InputError, match=match) as error:
            verify(frame, fetch=options, **arguments)
        assert "\n" not in str(error.value)
    with pytest.raises(DatasetError, match="cannot be read"):
        verify(tmp_path / "none.jsonl")


def test_names_of_hashes():
    assert normal(" ABCDEF01 ") == "abcdef01"
    assert normal("not a hash!") == "not a hash!"
    assert guess("checksum", ["0" * 64, "1" * 64, "x"]) == "sha256"
    assert guess("checksum", ["x"]) is None
