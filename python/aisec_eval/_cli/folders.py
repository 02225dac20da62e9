"""The verbs on what a run left: report, bundle, check, leaderboard."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .console import emit, line, verb
from .parameters import DataFiles, Json

if TYPE_CHECKING:
    from ..results import ScanResult


@verb
def report(
    folder: Annotated[Path, typer.Argument(help="A run folder.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="HTML file.", show_default="report.html in the folder")
    ] = None,
    as_json: Json = False,
) -> None:
    """Draw a run as one self-contained HTML file.

    **Example**

    ```
    aisec-eval report runs/quickstart --out quickstart.html
    ```
    """
    from ..runs import load_run

    written = write_page(load_run(folder), out or folder / "report.html")
    if as_json:
        emit({"report": str(written)})
    else:
        line(f"report: {written}")


@verb
def bundle(
    folder: Annotated[Path, typer.Argument(help="A finished run folder.", show_default=False)],
    suite: Annotated[Path, typer.Option(help="The suite that was run.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="File to write.", show_default="RUN.aisec.zip")
    ] = None,
    as_json: Json = False,
) -> None:
    """Pack a run with its models and evidence into one file that anybody can check.

    Every piece of evidence is replayed first. Nothing that names this machine or its user goes in.

    **Example**

    ```
    aisec-eval bundle runs/quickstart --suite suites/quickstart.toml --out quickstart.zip
    ```
    """
    from ..leaderboard import bundle as pack

    written = pack(folder, suite, out or folder.with_name(f"{folder.name}.aisec.zip"))
    if as_json:
        emit({"bundle": str(written), "bytes": written.stat().st_size})
    else:
        line(f"bundle: {written}")


@verb
def check(
    target: Annotated[
        Path,
        typer.Argument(help="A run folder, a bundle, a network, or votes.", show_default=False),
    ],
    certificate: Annotated[
        Path | None,
        typer.Argument(help="A certificate of the network, or radii of votes.", show_default=False),
    ] = None,
    suite: Annotated[
        Path | None, typer.Option(help="The suite that was run: gives models and data.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="A model as ID=PATH, where there is no suite.")
    ] = None,
    data: DataFiles = None,
    prop: Annotated[
        Path | None,
        typer.Option("--property", help="A VNNLIB file that the certificate must prove."),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Check the certificate in rational arithmetic.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check a run, a bundle or a certificate by code that shares nothing with what made it.

    Adversarial examples are replayed and brackets recomputed. Of a run, with the suite, clean
    verdicts and labels are checked against the data, certified samples are proven again, and the
    gates are judged anew. A bundle brings its models; nothing else in it is believed, and the level
    that was reached is named: L0 intact, L1 numbers recomputed, L2 adversarial examples replayed,
    L2+ clean verdicts and certified samples too, which needs the data. Of a certificate every bound
    is derived again, with every rounding accounted for, or without any. Of radii against poisoned
    training data, each is held against the votes it was derived from.

    **Examples**

    ```
    aisec-eval check runs/quickstart --suite suites/quickstart.toml
    aisec-eval check runs/first --model net=net.onnx
    aisec-eval check quickstart.zip
    aisec-eval check others.zip --data images=images.npz
    aisec-eval check net.onnx prop.cert --property prop.vnnlib
    aisec-eval check votes.npy radii.json
    ```
    """
    from . import checks

    if certificate is not None:
        options.not_for_certificates({"--suite": suite, "--model": model, "--data": data})
        if target.suffix == ".npy":
            options.only_for_certificates({"--property": prop, "--exact": exact})
            raise typer.Exit(checks.check_radii(target, certificate, as_json=as_json))
        raise typer.Exit(
            checks.check_certificate(target, certificate, prop, exact=exact, as_json=as_json)
        )
    options.only_for_certificates({"--property": prop, "--exact": exact})
    if target.is_file():
        options.only_for_runs({"--suite": suite, "--model": model})
        files = options.named_files("--data", data or [])
        raise typer.Exit(checks.check_bundle(target, files, as_json=as_json))
    options.only_for_bundles({"--data": data})
    models = options.named_files("--model", model or [])
    raise typer.Exit(checks.check_run(target, suite, models, as_json=as_json))


@verb
def leaderboard(
    bundles: Annotated[list[Path], typer.Argument(help="Bundles.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of the site.")] = Path("leaderboard"),
    data: DataFiles = None,
    as_json: Json = False,
) -> None:
    """Check bundles and draw those that hold as a site of static pages.

    Models are ranked where everything about them could be checked, in classes: only a model that
    is surely ahead is put ahead. A bundle that does not hold is named and left out (exit code 1,
    or 4 where it was not safe to read).

    **Examples**

    ```
    aisec-eval leaderboard quickstart.zip others.zip --out site
    aisec-eval leaderboard bundles/*.zip --data images=images.npz --json
    ```
    """
    from . import checks

    files = options.named_files("--data", data or [])
    raise typer.Exit(checks.leaderboard(bundles, out, files, as_json=as_json))


def write_page(result: Any, path: Path) -> Path:
    """Draw a run as one HTML file and return its path."""
    from ..report import write_report

    return write_report(result, path)


def write_scan(
    folder: Path,
    data: str,
    split: str,
    labels: str | None,
    result: ScanResult,
    ids: list[int] | None,
) -> Path:
    """Write a scan with its evidence and page into a new folder and return it."""
    import numpy as np

    from ..detectors.evidence import look
    from ..detectors.source import open_source
    from ..results import Scan
    from ..runs import load_run, save_scan

    features, given, _ = options.scan_source(data, split, labels)
    inputs, bounds = None, (0.0, 1.0)
    if ids is not None:
        samples = options.load_data(data, split, None)
        inputs, bounds = samples.x, samples.bounds
    evidence = look(open_source(features, given), result, inputs, bounds)
    named = Scan(Path(data).name, result, evidence=evidence)
    written = save_scan(named, folder, None if ids is None else np.asarray(ids))
    write_page(load_run(written), written / "report.html")
    return written
