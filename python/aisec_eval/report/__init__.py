"""Figures and pages for people: `write_report` makes one HTML file from a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..results import Run

__all__ = ["write_report"]


def write_report(run: Run, path: str | Path) -> Path:
    """Write the report of a run as one self-contained HTML file.

    It opens from disk, loads nothing and holds no times: the same run gives the same bytes.

    Args:
        run: what `load_run` returned.
        path: the file to write; its folders are made, an older report is replaced.

    Returns:
        The path written.

    Raises:
        RunError: the file cannot be written.
    """
    from .._files import write_bytes
    from .page import page

    return write_bytes(Path(path), page(run).encode("utf-8"))
