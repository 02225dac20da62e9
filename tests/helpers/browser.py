"""Headless Chromium over its debugging pipe, with the standard library alone.

Everything that would betray an injected page is recorded: dialogs, console lines, exceptions,
requests, new targets. See https://chromedevtools.github.io/devtools-protocol/.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--no-first-run",
    "--no-default-browser-check",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


def find() -> str | None:
    """Path of an installed Chromium, or None."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


@dataclass
class Seen:
    """What a page did besides being looked at."""

    dialogs: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)


class Browser:
    """A running browser with one page; use as a context manager."""

    def __init__(self, executable: str, *, timeout: float = 60.0) -> None:
        self._timeout = timeout
        self._profile = tempfile.mkdtemp(prefix="aisec-browser-")
        to_child, self._write = os.pipe()
        self._read, from_child = os.pipe()
        # The browser reads commands on descriptor 3 and answers on 4; sources are moved out of the
        # way of those two first.
        commands, answers = (
            fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (to_child, from_child)
        )
        os.close(to_child)
        os.close(from_child)
        self._pid = os.posix_spawn(
            executable,
            [executable, *FLAGS, f"--user-data-dir={self._profile}"],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_DUP2, commands, 3),
                (os.POSIX_SPAWN_DUP2, answers, 4),
            ],
        )
        os.close(commands)
        os.close(answers)
        self._buffer = b""
        self._next = 0
        self._session: str | None = None
        self.seen = Seen()

    def __enter__(self) -> Browser:
        target = self.call("Target.createTarget", url="about:blank", session=False)["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True, session=False)
        self._session = attached["sessionId"]
        self.call("Target.setDiscoverTargets", discover=True, session=False)
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self._drain(0.2)
        self.seen = Seen()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(RuntimeError, TimeoutError, BrokenPipeError):
            self.call("Browser.close", session=False)
        deadline = time.monotonic() + 10
        while os.waitpid(self._pid, os.WNOHANG)[0] == 0:
            if time.monotonic() > deadline:
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
                break
            time.sleep(0.02)
        os.close(self._write)
        os.close(self._read)
        shutil.rmtree(self._profile, ignore_errors=True)

    def open(self, path: Path, *, settle: float = 0.3) -> Seen:
        """Load a file, wait until it is complete and has settled; return what it did."""
        self.seen = Seen()
        self.call("Page.navigate", url=path.resolve().as_uri())
        deadline = time.monotonic() + self._timeout
        while self.run("document.readyState + ' ' + location.protocol") != "complete file:":
            if time.monotonic() > deadline:
                raise TimeoutError(f"{path} did not finish loading")
            self._drain(0.05)
        self._drain(settle)
        return self.seen

    def run(self, expression: str) -> Any:
        """Evaluate JavaScript in the page, waiting for promises; return its value."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"].get("exception", answer)))
        return answer["result"].get("value")

    def call(self, method: str, *, session: bool = True, **parameters: Any) -> dict[str, Any]:
        """Send one command of the protocol and wait for its answer."""
        self._next += 1
        number = self._next
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session and self._session:
            message["sessionId"] = self._session
        self._send(message)
        deadline = time.monotonic() + self._timeout
        while True:
            answer = self._receive(deadline - time.monotonic())
            if answer is None:
                raise TimeoutError(f"the browser did not answer {method}")
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return dict(answer["result"])
            self._note(answer)

    def _send(self, message: dict[str, Any]) -> None:
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._write, data) :]

    def _drain(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            message = self._receive(left)
            if message is not None:
                self._note(message)

    def _receive(self, seconds: float) -> dict[str, Any] | None:
        deadline = time.monotonic() + seconds
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return None
            data = os.read(self._read, 1 << 20)
            if not data:
                raise RuntimeError("the browser ended")
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\0", 1)
        return dict(json.loads(line))

    def _note(self, event: dict[str, Any]) -> None:
        about = event.get("params", {})
        match event.get("method"):
            case "Page.javascriptDialogOpening":
                self.seen.dialogs.append(str(about.get("message")))
                self._next += 1
                self._send(
                    {
                        "id": self._next,
                        "method": "Page.handleJavaScriptDialog",
                        "params": {"accept": False},
                        "sessionId": self._session,
                    }
                )
            case "Runtime.consoleAPICalled":
                values = [str(a.get("value", a.get("description"))) for a in about["args"]]
                self.seen.console.append(f"{about['type']}: {' '.join(values)}")
            case "Runtime.exceptionThrown":
                self.seen.console.append(f"exception: {about['exceptionDetails']}")
            case "Log.entryAdded":
                self.seen.console.append(f"{about['entry']['level']}: {about['entry']['text']}")
            case "Network.requestWillBeSent":
                self.seen.requests.append(about["request"]["url"])
            case "Target.targetCreated":
                self.seen.targets.append(about["targetInfo"]["url"])
