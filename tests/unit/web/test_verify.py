"""Three verdicts, and columns of hashes that are not what they are called."""

import base64
import hashlib

import numpy as np
import polars as pl
import pytest

from aisec_eval.datasets.web import build_manifest, verify
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
