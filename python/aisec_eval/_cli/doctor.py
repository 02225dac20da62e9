"""`aisec-eval doctor`: what this machine offers, and what is missing."""

from __future__ import annotations

import os
import platform
import socket
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Literal

REQUIRED = ("jax", "jaxlib", "numpy", "polars", "onnx", "pydantic", "plotly", "safetensors")
OPTIONAL = {
    "ray": "ray",
    "scikit-learn": "sklearn",
    "flax": "flax",
    "equinox": "equinox",
    "optax": "train",
}
"""Optional packages and the extra that installs them."""
OLDEST_RAY = (2, 52)
"""Older ones let a web page in the user's browser run code on the cluster (CVE-2025-62593)."""


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report."""

    what: str
    found: str
    state: Literal["ok", "note", "bad"] = "ok"
    advice: str = ""


def examine() -> list[Finding]:
    """Look at versions, devices, threads, memory and Ray."""
    return [*_engine(), *_packages(), *_machine(), *_devices(), *_ray()]


def _engine() -> list[Finding]:
    findings = [Finding("python", platform.python_version())]
    try:
        from .. import _core
        from ..suite.identity import engine
    except ImportError as error:
        return [
            *findings,
            Finding("engine", f"not importable ({error})", "bad", "run: make build"),
        ]
    identity = engine()
    return [
        Finding("engine", f"{identity['version']}, build {identity['build'][:12]}"),
        *findings,
        Finding("threads", f"{_core.get_threads()} of the native engine"),
    ]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _packages() -> list[Finding]:
    findings = []
    for package in REQUIRED:
        found = _version(package)
        if found:
            findings.append(Finding(package, found))
        else:
            findings.append(Finding(package, "missing", "bad", f"pip install {package}"))
    for package, extra in OPTIONAL.items():
        if package == "ray":
            continue
        found = _version(package)
        advice = "" if found else f"pip install 'aisec-eval[{extra}]'"
        findings.append(
            Finding(package, found or "not installed", "ok" if found else "note", advice)
        )
    return findings


def _machine() -> list[Finding]:
    from ..suite.local import usable_cores

    cores = Finding("cores", f"{len(usable_cores())} usable of {os.cpu_count()}")
    return [cores, Finding("simd", _simd()), Finding("memory", _memory())]


def _simd() -> str:
    """Return the vector instructions this CPU has."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            flags = next(
                (x.split(":")[1].split() for x in file if x.startswith(("flags", "Features"))), []
            )
    except (OSError, IndexError):
        flags = []
    known = ("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512vl", "asimd", "sve", "sve2")
    return ", ".join(flag for flag in known if flag in flags) or f"unknown ({platform.machine()})"


def _memory() -> str:
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(entry.split(":", 1) for entry in file)
        total, free = (int(fields[k].split()[0]) / 2**20 for k in ("MemTotal", "MemAvailable"))
    except (OSError, KeyError, ValueError):
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
        return f"{total:.1f} GiB"
    return f"{free:.1f} GiB free of {total:.1f} GiB"


def _devices() -> list[Finding]:
    try:
        import jax

        devices = jax.devices()
    except (ImportError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:120]
        return [Finding("devices", f"JAX cannot start ({reason})", "bad", "reinstall jax")]
    kinds = [f"{device.platform} ({device.device_kind})" for device in devices]
    return [Finding("devices", ", ".join(kinds))]


def _ray() -> list[Finding]:
    found = _version("ray")
    if found is None or find_spec("ray") is None:
        return [
            Finding("ray", "not installed", "note", "pip install 'aisec-eval[ray]' to use clusters")
        ]
    if tuple(int(part) for part in found.split(".")[:2]) < OLDEST_RAY:
        oldest = ".".join(map(str, OLDEST_RAY))
        return [Finding("ray", found, "bad", f"older than {oldest}, unsafe: pip install -U ray")]
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        advice = "listens on every interface while it runs: trusted networks only"
        return [Finding("ray", f"{found}, RAY_ADDRESS not set: starts here", advice=advice)]
    reachable = _reach(address)
    if reachable is None:
        return [Finding("ray", f"{found}, cluster at {address} reachable")]
    return [Finding("ray", f"{found}, {address}: {reachable}", "bad", "check RAY_ADDRESS")]


def _reach(address: str) -> str | None:
    """Return why nothing answers at `address`, None when something does."""
    if address in ("auto", "local"):
        return None
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=2):
            return None
    except ValueError:
        return "is not host:port"
    except OSError as error:
        return f"not reachable ({error.strerror or error})"
