"""Merkle trees against known roots, manifests on disk, perceptual hashes against the definition."""

import hashlib
import io
import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from aisec_eval.datasets.web import (
    Manifest,
    build_manifest,
    check_inclusion,
    inclusion_proof,
    load_manifest,
    merkle_root,
    perceptual_distance,
    perceptual_hash,
)
from aisec_eval.datasets.web.manifest import schema
from aisec_eval.errors import DatasetError, InputError


def root(leaves):
    """The recursion of RFC 6962, 2.1."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    half = 1
    while 2 * half < len(leaves):
        half *= 2
    return hashlib.sha256(b"\1" + root(leaves[:half]) + root(leaves[half:])).digest()


@given(st.lists(st.binary(max_size=3), max_size=20))
def test_roots_and_proofs(leaves):
    top = merkle_root(leaves)
    assert top == root(leaves).hex()
    count = len(leaves)
    for index, leaf in enumerate(leaves):
        proof = inclusion_proof(leaves, index)
        assert check_inclusion(leaf, index, count, proof, top)
        assert not check_inclusion(leaf + b"!", index, count, proof, top)
        assert not check_inclusion(leaf, index, count, [*proof, "00" * 32], top)
        assert not check_inclusion(leaf, index + count, count, proof, top)
        if proof:
            assert not check_inclusion(leaf, index, count, proof[:-1], top)


def test_known_root():
    """Certificate Transparency's test vectors: the first leaves of its sample tree."""
    leaves = [b"", b"\x00", b"\x10"]
    assert merkle_root([]) == hashlib.sha256(b"").hexdigest()
    assert merkle_root(leaves) == "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"


def png(pixels, form="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


def picture(seed, side=128):
    random = np.random.default_rng(seed)
    small = Image.fromarray(random.integers(0, 256, (6, 6, 3)).astype(np.uint8))
    return np.asarray(small.resize((side, side), Image.Resampling.BICUBIC))


def test_perceptual_hash_by_definition():
    data = png(picture(0))
    grey = np.asarray(Image.open(io.BytesIO(data)).convert("L").resize((32, 32), 1), np.float64)
    n = np.arange(32)
    basis = np.cos(np.pi * (n[None] + 0.5) * n[:, None] / 32)
    low = (basis @ grey @ basis.T)[:8, :8]
    # The ortho-normal transform halves the first row and column's squares.
    low[0] /= np.sqrt(2)
    low[:, 0] /= np.sqrt(2)
    bits = (low.ravel()[1:] > np.median(low.ravel()[1:])).astype(int)
    assert int(perceptual_hash(data), 16) == int("".join(map(str, bits)), 2)


def test_perceptual_hashes_see_what_is_seen():
    for seed in range(5):
        image = picture(seed)
        mine = perceptual_hash(png(image))
        smaller = np.asarray(Image.fromarray(image).resize((61, 70)))
        for other in (png(image, "JPEG", quality=60), png(smaller), png(image, "WEBP")):
            assert perceptual_distance(mine, perceptual_hash(other)) <= 8
        assert perceptual_distance(mine, perceptual_hash(png(picture(seed + 50)))) > 16
    flat = perceptual_hash(png(np.full((9, 9), 7, np.uint8)))
    assert flat == "0" * 16


def bomb():
    """A PNG that says it has 2^32 pixels."""
    data = bytearray(png(np.zeros((2, 2), np.uint8)))
    data[16:24] = (1 << 16).to_bytes(4) * 2
    return bytes(data)


@pytest.mark.parametrize(
    "data", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + b"x" * 50, bomb(),
             png(picture(0))[:-200], b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"]
)  # fmt: skip
def test_what_is_no_image(data):
    with pytest.raises(InputError, match="data: ") as error:
        perceptual_hash(data)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["m.parquet", "m.jsonl"])
def test_build_and_load(server, options, tmp_path, name):
    server.files |= {"/a.png": png(picture(1)), "/b.txt": b"text"}
    urls = [f"{server.url}/{path}" for path in ("a.png", "none", "b.txt", "a.png")]
    manifest = build_manifest(urls, tmp_path / name, fetch=options)
    rows = manifest.frame.rows(named=True)
    assert [row["url"] for row in rows] == urls
    assert rows[0] == rows[3] | {"url": urls[0]}
    assert rows[0]["sha256"] == hashlib.sha256(server.files["/a.png"]).hexdigest()
    assert rows[0]["phash"] == perceptual_hash(server.files["/a.png"])
    assert (rows[0]["mime"], rows[0]["size"]) == ("image/png", len(server.files["/a.png"]))
    assert rows[1]["error"] == "HTTP 404"
    assert rows[1]["sha256"] is None
    assert (rows[2]["phash"], rows[2]["mime"], rows[2]["error"]) == (None, "text/plain", None)
    read = load_manifest(tmp_path / name)
    assert read.frame.equals(manifest.frame)
    assert read.root == manifest.root
    leaves = [json.dumps([r[c] for c in ("url", "sha256", "size", "phash", "mime")],
                         separators=(",", ":")).encode() for r in rows]  # fmt: skip
    assert manifest.root == merkle_root(leaves)
    assert check_inclusion(leaves[2], 2, 4, manifest.proof(2), manifest.root)
    assert [path.name for path in tmp_path.iterdir()] == [name], "no journal is left"
    written = (tmp_path / name).read_bytes()
    assert build_manifest(urls, tmp_path / name, fetch=options).save(tmp_path / name)
    assert (tmp_path / name).read_bytes() == written


def test_stopped_and_taken_up_again(server, options, tmp_path):
    """What was downloaded before an interrupt is not downloaded again."""
    paths = [f"/{i}.txt" for i in range(40)]
    server.files |= {path: path.encode() for path in paths}
    urls = [server.url + path for path in paths]

    def stop(done, total, _note):
        if done >= 20 and total == 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_manifest(urls, tmp_path / "m.jsonl", fetch=options, progress=stop)
    assert not (tmp_path / "m.jsonl").exists()
    journal = tmp_path / "m.jsonl.part"
    kept = len(journal.read_text().splitlines()) - 1
    assert 20 <= kept < 40
    journal.write_text(journal.read_text() + '[39, {"url": "torn')
    server.asked.clear()
    whole = build_manifest(urls, tmp_path / "m.jsonl", fetch=options)
    assert sum(server.asked.values()) == 40 - kept
    assert whole.frame["error"].null_count() == 40
    assert whole.frame["sha256"].to_list() == [
        hashlib.sha256(path.encode()).hexdigest() for path in paths
    ]
    # The journal of other URLs is not taken for this one's.
    journal.write_text("another list\n[0, {}]\n")
    assert build_manifest(urls[:1], tmp_path / "m.jsonl", fetch=options).frame.height == 1


def test_nothing():
    assert build_manifest([]).frame.schema == pl.Schema(schema())
    assert build_manifest([]).root == hashlib.sha256(b"").hexdigest()


def test_what_does_not_fit(tmp_path):
    for urls, path, match in [
        ("http://a/", None, "a list of URLs"),
        (["http://a/", None], None, "row 1"),
        ([], tmp_path / "m.csv", "ends in"),
    ]:
        with pytest.raises(InputError, match=match):
            build_manifest(urls, path)
    with pytest.raises(DatasetError, match="cannot be read"):
        load_manifest(tmp_path / "none.parquet")
    good = Manifest(
        pl.DataFrame([["http://a/", "0" * 64, 3, None, None, None]], schema=schema(), orient="row")
    )
    good.save(tmp_path / "m.jsonl")
    assert load_manifest(tmp_path / "m.jsonl").root == good.root
    for column, value in [("sha256", "zz"), ("sha256", None), ("size", -1), ("url", None),
                          ("error", "x"), ("phash", "12")]:  # fmt: skip
        bad = good.frame.with_columns(pl.lit(value, dtype=good.frame[column].dtype).alias(column))
        Manifest(bad).save(tmp_path / "bad.parquet")
        with pytest.raises(DatasetError, match="row 0"):
            load_manifest(tmp_path / "bad.parquet")
    good.frame.drop("size").write_parquet(tmp_path / "bad.parquet")
    with pytest.raises(DatasetError, match="columns"):
        load_manifest(tmp_path / "bad.parquet")
    with pytest.raises(InputError, match="row 1"):
        good.proof(1)
