"""Black boxes by URL, against a server on this machine that misbehaves on demand."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval.attacks import RayS, Square
from aisec_eval.errors import AisecError, CapabilityError, EndpointError, InputError
from aisec_eval.models import Endpoint, load_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WEIGHT = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
FAST = {"backoff": 0.001, "timeout": 5.0}


def scores(x: Any) -> Any:
    return x.astype(np.float64) @ WEIGHT.T.astype(np.float64)


class Box:
    """A classifier of four features; `script` answers the next requests instead of it."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.script: list[Callable[[Any], None]] = []
        self.labels_only = False
        self.url = ""

    def answer(self, handler: Any) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        x = np.asarray(json.loads(body)["inputs"], np.float32)
        about = {"x": x, "headers": dict(handler.headers), "at": time.monotonic()}
        self.requests.append({**about, "path": handler.path, "from": handler.client_address})
        if self.script:
            self.script.pop(0)(handler)
            return
        z = scores(x)
        found = {"labels": z.argmax(1).tolist()} if self.labels_only else {"scores": z.tolist()}
        reply(handler, found)


def reply(handler: Any, value: Any, status: int = 200, **headers: str) -> None:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    handler.send_response(status)
    for name, text in headers.items():
        handler.send_header(name.replace("_", "-"), text)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def status(code: int, text: str = "", **headers: str) -> Callable[[Any], None]:
    return lambda handler: reply(handler, text.encode(), code, **headers)


@contextmanager
def serving(box: Box) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            box.answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            pass  # the client hangs up on purpose

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def box() -> Iterator[Box]:
    made = Box()
    with serving(made) as url:
        made.url = url + "/predict"
        yield made


def load(box: Box, **options: Any) -> Any:
    return load_model(box.url, input_shape=(4,), endpoint=Endpoint(**{**FAST, **options}))


def batch(n: int = 2) -> Any:
    return np.random.default_rng(1).random((n, 4), dtype=np.float32)


def test_scores_arrive_digit_for_digit(box: Box) -> None:
    model = load(box)
    x = batch(7)
    np.testing.assert_array_equal(model.logits(x), scores(x).astype(np.float32))
    np.testing.assert_array_equal(box.requests[-1]["x"], x)
    np.testing.assert_array_equal(model.labels(x), scores(x).argmax(1))
    assert model.capabilities.scores
    assert not model.capabilities.gradient
    assert model.num_classes == 3
    assert model.graph is None
    assert model.jax_function() is None
    assert len({r["from"] for r in box.requests}) == 1  # one connection for all


def test_batches_and_the_digest(box: Box) -> None:
    model = load(box, max_batch=3)
    before = len(box.requests)
    assert model.logits(batch(8)).shape == (8, 3)
    assert [len(r["x"]) for r in box.requests[before:]] == [3, 3, 2]
    assert model.capabilities.max_batch == 3
    assert model.logits(batch(0)).shape == (0, 3)
    assert load(box).digest == model.digest
    box.url += "/v2"
    assert load(box).digest != model.digest


def test_square_breaks_it_and_the_verdicts_hold(box: Box) -> None:
    model = load(box)
    x = batch(12)
    y = scores(x).argmax(1)
    result = ae.attack(model, x, y, ae.Linf(0.3), method=Square(queries=200))
    broken = np.asarray(result.verdict) == ae.VERDICTS.index("broken")
    assert broken.sum() >= 6
    assert (scores(result.x_adv[broken]).argmax(1) != y[broken]).all()


def test_labels_only(box: Box) -> None:
    box.labels_only = True
    with pytest.raises(InputError, match="num_classes"):
        load(box)
    model = load(box, num_classes=3)
    assert not model.capabilities.scores
    np.testing.assert_array_equal(model.labels(batch(5)), scores(batch(5)).argmax(1))
    with pytest.raises(CapabilityError, match="labels only"):
        model.logits(batch())
    with pytest.raises(CapabilityError, match="labels only"):
        ae.attack(model, batch(), [0, 1], ae.Linf(0.1), method="square")
    assert any("labels only" in line for line in model.report.warnings)
    x = batch(12)
    y = scores(x).argmax(1)
    result = ae.attack(model, x, y, ae.Linf(0.4), method=RayS(queries=400))
    broken = np.asarray(result.verdict) == ae.VERDICTS.index("broken")
    assert broken.sum() >= 6
    assert (scores(result.x_adv[broken]).argmax(1) != y[broken]).all()


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_transient_failures_are_retried(box: Box, code: int) -> None:
    model = load(box)
    before = model.queries
    box.script = [status(code), status(code)]
    np.testing.assert_array_equal(model.logits(batch()), scores(batch()).astype(np.float32))
    assert model.queries - before == 6


def test_backoff_doubles_and_retry_after_is_obeyed(box: Box) -> None:
    model = load(box, backoff=0.05)
    box.script = [status(503)] * 3
    model.logits(batch())
    at = np.array([r["at"] for r in box.requests[-4:]])
    assert (np.diff(at) >= np.array([0.05, 0.1, 0.2])).all()
    box.script = [status(429, Retry_After="1")]
    model.logits(batch())
    assert box.requests[-1]["at"] - box.requests[-2]["at"] >= 1


def test_an_endpoint_that_stays_down_is_left_alone_for_a_while(box: Box) -> None:
    model = load(box, retries=2)
    box.script = [status(503, "busy")] * 3
    with pytest.raises(EndpointError, match=r"HTTP 503: busy, 3 times in a row"):
        model.logits(batch())
    before = len(box.requests)
    with pytest.raises(EndpointError, match="asked again in"):
        model.logits(batch())
    assert len(box.requests) == before


def test_other_refusals_are_final_and_printable(box: Box) -> None:
    model = load(box)
    before = len(box.requests)
    box.script = [status(400, "bad\n\x1b[31minput" + "x" * 500)]
    with pytest.raises(EndpointError, match="HTTP 400: bad") as caught:
        model.logits(batch())
    message = str(caught.value)
    assert len(box.requests) == before + 1
    assert message.isprintable()
    assert len(message) < 250


def slow(handler: Any) -> None:
    """A byte from time to time: no single wait is long."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(40):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)


def test_the_timeout_is_of_the_whole_request(box: Box) -> None:
    model = load(box, timeout=0.3, retries=0)
    box.script = [slow]
    began = time.monotonic()
    with pytest.raises(EndpointError, match=r"no answer within 0\.3 s"):
        model.logits(batch())
    assert time.monotonic() - began < 1.5


def hang_up(handler: Any) -> None:
    handler.close_connection = True


def cut_short(handler: Any) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"scores": ')
    handler.close_connection = True


@pytest.mark.parametrize("fault", [hang_up, cut_short])
def test_broken_connections_are_retried(box: Box, fault: Callable[[Any], None]) -> None:
    model = load(box)
    box.script = [fault, fault]
    np.testing.assert_array_equal(model.logits(batch()), scores(batch()).astype(np.float32))


def test_timeouts_are_retried_on_a_new_connection(box: Box) -> None:
    model = load(box, timeout=0.3)
    box.script = [slow]
    np.testing.assert_array_equal(model.logits(batch()), scores(batch()).astype(np.float32))
    assert box.requests[-1]["from"] != box.requests[-2]["from"]


GARBAGE = {
    "html": (b"<html>", "not JSON"),
    "empty": (b"", "not JSON"),
    "deep": (b"[" * 100_000, "not JSON"),
    "nan": (b'{"scores": [[NaN, 0, 0], [0, 0, 0]]}', "not JSON"),
    "digits": (b'{"scores": [[' + b"9" * 5000 + b", 0, 0], [0, 0, 0]]}", "not JSON"),
    "utf8": (b'\xff\xfe{"scores"', "not JSON"),
    "list": (b"[[1, 2, 3]]", 'neither "scores" nor "labels"'),
    "other key": (b'{"logits": []}', 'neither "scores" nor "labels"'),
    "scalar": (b'{"scores": 3}', 'neither "scores" nor "labels"'),
    "ragged": (b'{"scores": [[1, 2, 3], [1, 2]]}', r"is not \[2, classes\]"),
    "rows": (b'{"scores": [[1, 2, 3]]}', r"is not \[2, classes\]"),
    "words": (b'{"scores": [["a", "b", "c"], ["a", "b", "c"]]}', r"is not \[2, classes\]"),
    "bools": (b'{"scores": [[true, false, 1], [0, 0, 1]]}', r"is not \[2, classes\]"),
    "null": (b'{"scores": [[null, 0, 1], [0, 0, 1]]}', r"is not \[2, classes\]"),
    "infinite": (b'{"scores": [[1e999, 0, 1], [0, 0, 1]]}', "float32 cannot"),
    "too large": (b'{"scores": [[1e39, 0, 1], [0, 0, 1]]}', "float32 cannot"),
    "classes": (b'{"scores": [[1, 2], [1, 2]]}', "2 scores an input, expected 3"),
    "labels": (b'{"labels": [1, 2]}', "answers labels, on load it answered scores"),
    "float labels": (b'{"labels": [1.0, 2.0]}', r"is not \[2\] integers"),
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_is_refused_in_one_line(box: Box, kind: str) -> None:
    body, message = GARBAGE[kind]
    model = load(box)
    box.script = [lambda handler: reply(handler, body)]
    with pytest.raises(EndpointError, match=message) as caught:
        model.logits(batch())
    assert "\n" not in str(caught.value)
    assert model.logits(batch()).shape == (2, 3)


def test_labels_outside_the_classes(box: Box) -> None:
    box.labels_only = True
    model = load(box, num_classes=3)
    box.script = [lambda handler: reply(handler, {"labels": [0, 3]})]
    with pytest.raises(EndpointError, match=r"outside 0\.\.2"):
        model.labels(batch())


@pytest.mark.parametrize("chunked", [False, True])
def test_huge_responses_are_not_read(box: Box, chunked: bool) -> None:
    written = []

    def flood(handler: Any) -> None:
        handler.send_response(200)
        chunk = b" " * 65536
        if chunked:
            handler.send_header("Transfer-Encoding", "chunked")
            chunk = b"10000\r\n" + chunk + b"\r\n"
        else:
            handler.send_header("Content-Length", str(10**12))
        handler.end_headers()
        for _ in range(4096):
            handler.wfile.write(chunk)
            written.append(len(chunk))

    model = load(box, max_response=100_000)
    box.script = [flood]
    with pytest.raises(EndpointError, match="larger than max_response=100000"):
        model.logits(batch())
    assert model.logits(batch()).shape == (2, 3)
    assert sum(written) < 64 << 20


def test_redirects_stay_on_the_origin(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", "s3cret")
    model = load(box, api_key_env="TEST_KEY")
    box.script = [status(307, Location="/elsewhere?a=1")]
    assert model.logits(batch()).shape == (2, 3)
    assert box.requests[-1]["path"] == "/elsewhere?a=1"
    np.testing.assert_array_equal(box.requests[-1]["x"], batch())

    other = Box()
    with serving(other) as url:
        for code in (301, 302, 303, 307, 308):
            box.script = [status(code, Location=url + "/predict")]
            with pytest.raises(EndpointError, match="another origin"):
                model.logits(batch())
    assert other.requests == []
    box.script = [status(302, Location="/elsewhere")]
    with pytest.raises(EndpointError, match="would drop the query"):
        model.logits(batch())
    box.script = [status(307, Location="/predict")] * 9
    with pytest.raises(EndpointError, match="more than 3 redirects"):
        model.logits(batch())
    box.script = [status(308, Location="https://user:word@[::bad/")]
    with pytest.raises(EndpointError, match="malformed Location"):
        model.logits(batch())


def test_budget_counts_retries_and_stops_before_sending(box: Box) -> None:
    model = load(box, max_queries=20)
    assert model.queries == 4  # two probes, twice
    box.script = [status(503)]
    model.logits(batch(5))
    assert model.queries == 14
    before = len(box.requests)
    with pytest.raises(EndpointError, match=r"max_queries=20 is spent \(14 sent, 7 asked\)"):
        model.logits(batch(7))
    assert len(box.requests) == before
    model.logits(batch(6))


def test_rate(box: Box) -> None:
    model = load(box, requests_per_second=20, max_batch=1)
    model.logits(batch(6))
    at = np.array([r["at"] for r in box.requests])
    assert (np.diff(at) >= 0.045).all()


def test_query_log_without_secrets(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEY", "s3cret")
    log = tmp_path / "queries.jsonl"
    box.url += "?token=hidden"
    model = load(box, log=log, api_key_env="TEST_KEY", timeout=0.3)
    box.script = [status(503, "the key s3cret is busy"), slow]
    model.logits(batch(3))
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["n"] for line in lines] == [2, 2, 3, 3, 3]
    assert [line["status"] for line in lines] == [200, 200, 503, None, 200]
    assert lines[3]["error"] == "no answer within 0.3 s"
    assert all(set(line) - {"error"} == {"time", "n", "status", "latency"} for line in lines)
    assert lines[2]["error"] == "HTTP 503: the key *** is busy"
    assert "s3cret" not in log.read_text()
    assert "hidden" not in log.read_text() + model.name + repr(model.report)
    assert box.requests[-1]["headers"]["Authorization"] == "Bearer s3cret"
    load(box, api_key_env="TEST_KEY", api_key_header="X-API-Key")
    assert box.requests[-1]["headers"]["X-API-Key"] == "s3cret"


def test_failures_become_error_verdicts_not_robust_ones(box: Box) -> None:
    model = load(box, max_queries=40, max_batch=4)
    x = batch(12)
    result = ae.attack(model, x, scores(x).argmax(1), ae.Linf(1e-4), method=Square(queries=50))
    assert any("max_queries=40 is spent" in flag for flag in result.flags)
    codes = set(np.asarray(result.verdict).tolist())
    assert codes == {ae.VERDICTS.index("error")}


def test_checks_on_load(box: Box) -> None:
    x = batch(40)
    y = scores(x).argmax(1)
    url = {"input_shape": (4,), "endpoint": Endpoint(**FAST)}
    good = load_model(box.url, samples=x, labels=y, **url)
    assert len(good.report.warnings) == 1
    assert "not certifiable" in good.report.warnings[0]
    wrong = load_model(box.url, samples=x, labels=(y + 1) % 3, **url)
    assert any("close to chance" in line for line in wrong.report.warnings)
    box.labels_only = True
    url["endpoint"] = Endpoint(num_classes=3, **FAST)
    wrong = load_model(box.url, samples=x, labels=(y + 1) % 3, **url)
    assert any("close to chance" in line for line in wrong.report.warnings)
    assert len(load_model(box.url, samples=x, labels=y, **url).report.warnings) == 2


def test_randomness_and_probabilities_are_noticed(box: Box) -> None:
    rows = [[[0.5, 0.25, 0.25]] * 2, [[0.25, 0.5, 0.25]] * 2]
    for found in ("scores", "labels"):
        values = rows if found == "scores" else [[0, 0], [1, 1]]
        box.script = [lambda h, v=v, f=found: reply(h, {f: v}) for v in values]
        model = load(box, num_classes=3)
        assert not model.capabilities.deterministic
        assert any("not deterministic" in line for line in model.report.warnings)
        looks = any("look like probabilities" in line for line in model.report.warnings)
        assert looks == (found == "scores")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_batch": 0}, "max_batch=0"),
        ({"max_queries": True}, "max_queries=True"),
        ({"retries": -1}, "retries=-1"),
        ({"num_classes": 1}, "num_classes=1"),
        ({"timeout": 0}, "timeout=0"),
        ({"requests_per_second": float("nan")}, "requests_per_second=nan"),
        ({"backoff": "1"}, "backoff='1'"),
        ({"api_key_header": "X: y\r\n"}, "not the name of a header"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Endpoint(**options)


def test_refusals_before_anything_is_sent(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAD_KEY", "a\r\nX-Evil: 1")
    monkeypatch.setenv("KEY", "s3cret")
    monkeypatch.delenv("NO_KEY", raising=False)
    for url, options, message in (
        ("http://user:word@127.0.0.1/", {}, "user name"),
        ("http:///predict", {}, "not a URL"),
        ("http://127.0.0.1:port/", {}, "not a URL"),
        ("http://127.0.0.1/a b", {}, "escaped"),
        ("http://127.0.0.1/\r\nX: y", {}, "escaped"),
        ("http://example.invalid/", {"api_key_env": "KEY"}, "https only"),
        (box.url, {"api_key_env": "NO_KEY"}, "'NO_KEY' is not set"),
        (box.url, {"api_key_env": "BAD_KEY"}, "no HTTP header may have"),
        (box.url, {"log": tmp_path}, "query log"),
    ):
        with pytest.raises(AisecError, match=message) as caught:
            load_model(url, input_shape=(4,), endpoint=Endpoint(**options))
        text = str(caught.value)
        assert "\n" not in text
        assert not any(secret in text for secret in ("word", "s3cret", "Evil"))
    with pytest.raises(InputError, match="input_shape"):
        load_model(box.url)
    with pytest.raises(InputError, match="goes with the http"):
        load_model("net.onnx", endpoint=Endpoint())
    with pytest.raises(InputError, match="goes with the http"):
        load_model(box.url, input_shape=(4,), endpoint={"max_batch": 3})  # type: ignore[arg-type]
    assert box.requests == []


def test_no_server_is_said_at_once() -> None:
    box = Box()
    with serving(box) as url:
        pass
    began = time.monotonic()
    with pytest.raises(EndpointError, match="ConnectionRefusedError"):
        load_model(url, input_shape=(4,))
    assert time.monotonic() - began < 1


def test_not_finite_inputs_are_not_sent(box: Box) -> None:
    model = load(box)
    before = len(box.requests)
    with pytest.raises(InputError, match="JSON cannot say"):
        model.logits(np.full((1, 4), np.nan, np.float32))
    with pytest.raises(InputError, match="the model takes"):
        model.logits(np.zeros((1, 5), np.float32))
    assert len(box.requests) == before
