"""Every attack in a suite by name and options, and black boxes by URL."""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from aisec_eval import attacks, load_run
from aisec_eval.attacks.custom import Custom
from aisec_eval.attacks.options import options_of
from aisec_eval.attacks.registry import ATTACKS
from aisec_eval.errors import ModelImportError, RunError, SuiteError
from aisec_eval.leaderboard import bundle
from aisec_eval.suite import load_suite
from aisec_eval.suite.attack_table import _table_of, attack_objects, attack_table
from aisec_eval.suite.execute_shard import execute_shard
from aisec_eval.suite.plan import make_plan
from aisec_eval.suite.recheck import recheck, suite_inputs
from helpers.tiny_bundle import run_here
from helpers.tiny_suite import write_suite

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LISTED = '[{ name = "apgd-ce", steps = 10 }, { name = "square", queries = 50 }]'
PACKAGE = '''
"""An attack as another package would offer it."""
import numpy as np


class Corner:
    name = "corner"

    def __init__(self, queries: int = 20, share: float = 0.5):
        if not 0 < share <= 1:
            raise ValueError("share must be above 0 and at most 1")
        self.queries, self.share = queries, share

    def ask(self, batch):
        chosen = np.abs(batch.random()) < self.share
        corner = np.where(batch.random() > 0, batch.upper, batch.lower)
        return np.where(chosen, corner, batch.x)

    def tell(self, batch, points, logits):
        pass
'''


def suite_of(folder: Path, listed: str, threat: str = "") -> Path:
    path = write_suite(folder, models=1)
    text = path.read_text().replace(LISTED, listed)
    if threat:
        text = text.replace('norm = "linf"\neps = ["1/64", "1/16"]', threat)
        text = text.replace('\n[[threat]]\nnorm = "l2"\neps = ["1/8"]\n', "")
    # Evaluations only.
    text = text.replace('\n[[task]]\nkind = "scan"\ndata = ["poisoned"]\n', "")
    path.write_text(text)
    return path


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package with an attack, as pip would have installed it."""
    folder = tmp_path / "site"
    about = folder / "corner_attack-1.2.dist-info"
    about.mkdir(parents=True)
    (folder / "corner_attack.py").write_text(PACKAGE)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: corner-attack\nVersion: 1.2\n")
    (about / "entry_points.txt").write_text("[aisec_eval.attacks]\ncorner = corner_attack:Corner\n")
    monkeypatch.syspath_prepend(str(folder))
    _table_of.cache_clear()
    yield about
    _table_of.cache_clear()
    sys.modules.pop("corner_attack", None)


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_stands_in_a_suite_with_its_defaults(name: str) -> None:
    table = attack_table(name)
    stored = json.loads(json.dumps(table.to_json()))
    assert set(stored) == {"name", *options_of(name)}
    assert attack_objects([stored]) == [ATTACKS[name]]


def test_options_are_exact_and_typed() -> None:
    table = attack_table({"name": "fmn", "steps": 7, "radius_change": ["1/20", 0.001]})
    stored = json.loads(json.dumps(table.to_json()))
    [found] = attack_objects([stored])
    assert found == attacks.FMN(steps=7, radius_change=(0.05, 0.001))
    [found] = attack_objects([attack_table({"name": "apgd-dlr", "large_radius": True}).to_json()])
    assert found == attacks.APGD(loss="dlr", large_radius=True)


BAD = [
    ('{ name = "fmn", stepz = 5 }', ".stepz", 'unknown key; did you mean "steps"?'),
    ('{ name = "apgd-dlr", loss = "ce" }', ".loss", "unknown key; there are name, steps"),
    ('{ name = "fmn", steps = 1.5 }', ".steps", "integer"),
    ('{ name = "fmn", steps = 0 }', "", "steps=0 must be an integer of at least 1"),
    ('{ name = "fmn", steps = 99999999999 }', ".steps", "less than or equal"),
    ('{ name = "fmn", radius_change = [1] }', ".radius_change", ""),
    ('{ name = "square", p_init = 0 }', "", "p_init=0.0 must be above 0"),
    ('{ name = "square", p_init = true }', ".p_init", "must be a number"),
    ('{ name = "square", p_init = "1/0" }', ".p_init", "not a finite number"),
    ('{ name = "square", p_init = inf }', ".p_init", "not a finite number"),
    ('{ name = "apgd-t", large_radius = 1 }', ".large_radius", "boolean"),
    ('{ name = "fmm" }', ".name", "'fmm' is not known; did you mean \"fmn\"?"),
    ("{ steps = 5 }", ".name", "missing"),
    ('{ name = "spatial-grid", rotations = 0 }', "", "rotations=0"),
]


@pytest.mark.parametrize(("entry", "key", "message"), BAD)
def test_a_mistake_is_named_with_its_line(
    tmp_path: Path, entry: str, key: str, message: str
) -> None:
    path = suite_of(tmp_path, f'[\n  "deepfool",\n  {entry},\n]')
    line = path.read_text().split(entry)[0].count("\n") + 1
    with pytest.raises(SuiteError) as caught:
        load_suite(path)
    text = str(caught.value)
    assert text.startswith(f"{path}:{line}: task[0].attacks[1]{key}: ")
    assert message in text
    assert "\n" not in text


THREATS = [
    ('kind = "spatil"', "kind", "there are 'ball', 'spatial', 'corruptions'"),
    ('kind = "spatial"\nmax_rot = 3', "max_rot", 'did you mean "max_rotation"?'),
    ('kind = "spatial"\nmax_rotation = 190', "max_rotation", "less than or equal to 180"),
    ('kind = "corruptions"\nnames = ["fogg"]', "names[0]", 'did you mean "fog"?'),
    ('kind = "corruptions"\nseverities = [1, 6]', "severities[1]", "less than or equal to 5"),
]


@pytest.mark.parametrize(("table", "key", "message"), THREATS)
def test_threat_models_without_a_radius(tmp_path: Path, table: str, key: str, message: str) -> None:
    with pytest.raises(SuiteError) as caught:
        load_suite(suite_of(tmp_path, LISTED, table))
    assert f"threat[0].{key}: " in str(caught.value)
    assert message in str(caught.value)


def test_rotations_in_a_suite_from_plan_to_recheck(tmp_path: Path) -> None:
    threat = 'kind = "spatial"\nid = "turned"\nmax_rotation = "25/2"\nmax_translation = 1'
    path = suite_of(tmp_path, '["spatial-grid"]', threat)
    path.write_text(path.read_text() + '"attacked_accuracy@turned" = "<= 0.9"\n')
    run_here(path, tmp_path / "run")
    run = load_run(tmp_path / "run")
    [e] = run.evaluations
    assert e.info["threat"]["max_rotation"] == "25/2"
    assert run.manifest["cells"][0]["threat"] == e.info["threat"]
    assert "spatial-grid" in e.found_by
    models, data = suite_inputs(path)
    [checked] = recheck(run, models, data)
    assert checked.confirmed == checked.broken > 0
    assert checked.problems == ()
    # A run that claims another rotation than it made does not pass.
    swapped = (e.transform[-1], *e.transform[1:-1], e.transform[0])
    object.__setattr__(e, "transform", swapped)
    assert recheck(run, models, data)[0].confirmed < checked.broken
    with pytest.raises(RunError, match="bundles are of norm balls"):
        bundle(tmp_path / "run", path, tmp_path / "b.zip")


def test_installed_attacks_are_known_by_distribution_and_version(
    tmp_path: Path, installed: Path
) -> None:
    path = suite_of(tmp_path, '["deepfool", { name = "corner", queries = 5, share = "1/4" }]')
    plan = make_plan(load_suite(path))
    shard = next(shard for shard in plan.shards if shard.model is not None)
    [_, stored] = shard.identity["attacks"]
    assert stored == {
        "name": "corner",
        "queries": 5,
        "share": 0.25,
        "source": "corner-attack 1.2 (corner_attack:Corner)",
    }
    [_, made] = attack_objects(shard.identity["attacks"])
    assert isinstance(made, Custom)
    assert (made.budget, made.attack.share) == (5, 0.25)
    assert execute_shard(shard).spent.queries.max() > 0  # type: ignore[union-attr]
    about = installed / "METADATA"
    about.write_text(about.read_text().replace("1.2", "1.3"))
    with pytest.raises(RunError, match=r"corner-attack 1\.3 .* here and was corner-attack 1\.2"):
        execute_shard(shard)
    other = next(s for s in make_plan(load_suite(path)).shards if s.model is not None)
    assert other.key != shard.key
    for entry, message in (
        ('{ name = "corner", querys = 5 }', 'did you mean "queries"?'),
        ('{ name = "corner", share = 0 }', "share must be above 0"),
        ('{ name = "corner", queries = true }', "integer"),
    ):
        bad = tmp_path / "bad"
        bad.mkdir(exist_ok=True)
        with pytest.raises(SuiteError, match=r"tiny\.toml:\d+: task\[0\]\.attacks\[0\]") as caught:
            load_suite(suite_of(bad, f"[{entry}]"))
        assert message in str(caught.value)


WEIGHT = np.random.default_rng(0).normal(size=(64, 10))


@pytest.fixture
def endpoint() -> Iterator[str]:
    """A black box that answers scores."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            x = np.asarray(body["inputs"], np.float32).reshape(-1, 64)
            answer = json.dumps({"scores": (x @ WEIGHT).tolist()}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/predict"
    server.shutdown()
    server.server_close()
    thread.join()


BOX = 'version = "2026-11"\ninput_shape = [1, 8, 8]\n[model.endpoint]\nmax_batch = 16\n'


def test_a_black_box_is_known_by_url_and_stated_version(tmp_path: Path, endpoint: str) -> None:
    path = suite_of(tmp_path, '[{ name = "square", queries = 20 }]')
    text = path.read_text().replace('path = "wide.onnx"\n', f'url = "{endpoint}"\n{BOX}')
    text = text.replace('"clean_accuracy@wide" = ">= 0.5"\n', "").replace("[0, 48]", "[0, 8]")
    path.write_text(text)
    run_here(path, tmp_path / "run")
    run = load_run(tmp_path / "run")
    assert run.manifest["models"][0]["url"] == endpoint
    assert run.manifest["models"][0]["version"] == "2026-11"
    assert any("stated to be version '2026-11'" in line for line in run.manifest["warnings"])
    for e in run.evaluations:
        assert any("need not come out the same again" in flag for flag in e.flags)
        assert e.bracket.certified == 0
    keys = {shard.key for shard in make_plan(load_suite(path)).shards if shard.model}
    path.write_text(text.replace("2026-11", "2026-12"))
    suite_inputs(path)
    other = {shard.key for shard in make_plan(load_suite(path)).shards if shard.model}
    assert not keys & other
    with pytest.raises(RunError, match="black box behind a URL"):
        bundle(tmp_path / "run", path, tmp_path / "b.zip")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("", 'needs either path = "model.onnx" or url'),
        ('url = "https://h/p"', "a url needs version"),
        ('url = "https://h/p"\nversion = "1"', "a url needs input_shape"),
        ('url = "https://h/p"\npath = "wide.onnx"', "needs either"),
        ('url = "file:///etc/passwd"', "model[0].url"),
        ('path = "wide.onnx"\nversion = "1"', "are for a model behind a url"),
        (f'url = "https://h/p"\n{BOX}timeout = 0', "timeout=0.0 must be a number above 0"),
        (f'url = "https://h/p"\n{BOX}log = "x"', "model[0].endpoint.log: unknown key"),
        (f'url = "https://h/p"\n{BOX}api_key_env = "HOME"', "must start with AISEC_EVAL_"),
    ],
)
def test_what_a_model_table_must_say(tmp_path: Path, model: str, message: str) -> None:
    path = suite_of(tmp_path, LISTED)
    path.write_text(path.read_text().replace('path = "wide.onnx"', model))
    with pytest.raises(SuiteError) as caught:
        load_suite(path)
    assert message in str(caught.value)
    assert "model[0]" in str(caught.value)


def test_a_file_that_is_no_model_is_still_refused(tmp_path: Path) -> None:
    path = suite_of(tmp_path, LISTED)
    (tmp_path / "wide.onnx").write_bytes(b"nothing")
    with pytest.raises(ModelImportError, match="wide"):
        make_plan(load_suite(path))
