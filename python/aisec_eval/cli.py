"""The command line: one verb a function, no logic of its own.

Exit codes: 0 done and every gate passed, 1 a gate failed or evidence did not hold, 2 usage,
configuration or unknown metric, 3 incomplete (shards errored), 4 unsafe artifact refused,
5 unsupported model, 130 interrupted and resumable.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ._cli import clock, folders, options, show, show_runs
from ._cli.console import complain, emit, line, progress, table, verb
from ._cli.parameters import DataName, Ids, Json, ModelFile, Seed, Split, Threat

EPILOG = (
    "Exit codes: 0 done and every gate passed, 1 a gate failed or evidence did not hold, "
    "2 usage or configuration, 3 incomplete (shards failed), 4 unsafe file refused, "
    "5 unsupported model, 130 interrupted (the same command resumes a run)."
)

app = typer.Typer(
    name="aisec-eval",
    help="How often can an attacker win? Brackets certified <= robust <= attacked, with evidence.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
@verb
def run(
    suite: Annotated[Path, typer.Argument(help="A suite file.", show_default=False)],
    executor: Annotated[
        Literal["local", "ray"],
        typer.Option(help="Processes on this machine, or a Ray cluster (RAY_ADDRESS)."),
    ] = "local",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes or tasks at once.", show_default="by cores")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder.", show_default="runs/<suite name>")
    ] = None,
    resume: Annotated[
        bool, typer.Option(help="Keep what an earlier run of the suite finished in the folder.")
    ] = True,
    report: Annotated[bool, typer.Option(help="Write report.html into the run folder.")] = True,
    as_json: Json = False,
) -> None:
    """Run a suite and print the bracket of every model and threat model.

    Results do not depend on the executor, the number of workers, or on being killed: the same
    command goes on where an earlier one stopped.

    **Examples**

    ```
    aisec-eval run suites/quickstart.toml
    aisec-eval run suites/quickstart.toml --executor ray --workers 8 --out runs/nightly
    aisec-eval run suites/quickstart.toml --json > result.json
    ```
    """
    from .errors import IncompleteRunError
    from .suite import load_suite
    from .suite import run as run_suite

    loaded = load_suite(suite)
    with progress(quiet=as_json) as update:
        result = run_suite(
            loaded, executor=executor, workers=workers, out=out, resume=resume, progress=update
        )
    for warning in result.manifest.get("warnings", ()):
        complain(f"warning: {warning}")
    written = folders.write_page(result, result.path / "report.html") if report else None
    failed = any(not gate["passed"] for gate in result.manifest["gates"])
    code = 1 if failed else 0
    if result.errors and loaded.fail_on_error:
        code = IncompleteRunError.exit_code
    if as_json:
        emit(show_runs.run_json(result) | {"report": written and str(written), "exit_code": code})
    else:
        show_runs.run_table(result)
        if result.errors:
            line(f"{len(result.errors)} shards failed; the same command tries them again")
        if written is not None:
            line(f"report: {written}")
    raise typer.Exit(code)


@app.command()
@verb
def attack(
    model: ModelFile,
    data: DataName,
    threat: Threat,
    split: Split = "test",
    ids: Ids = None,
    method: Annotated[
        str,
        typer.Option(
            help='"fast", "standard" (AutoAttack), "plus", "rand", or names of attacks separated '
            "by commas, e.g. apgd-ce,fab-t,square."
        ),
    ] = "fast",
    steps: Annotated[int | None, typer.Option(min=1, help="Of apgd-ce.")] = None,
    queries: Annotated[int | None, typer.Option(min=1, help="Of square, per sample.")] = None,
    restarts: Annotated[int | None, typer.Option(min=1, help="Of each attack.")] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Search for adversarial examples.

    **Examples**

    ```
    aisec-eval attack net.onnx --data digits --threat "linf 1/16"
    aisec-eval attack net.onnx --data images.npz --ids 0:100 --threat "l2 0.5" --method square
    ```
    """
    from .attacks import attack as run_attack
    from .attacks.lattice import spacing_of

    samples = options.load_data(data, split, ids)
    loaded = _load_model(model, samples)
    ball = options.parse_threat(threat, samples.bounds)
    with progress(quiet=as_json) as update:
        result = run_attack(
            loaded,
            samples.x,
            samples.y,
            ball,
            method=options.parse_attacks(method, steps, queries, restarts),
            seed=seed,
            sample_ids=samples.ids,
            lattice=spacing_of(samples),
            progress=update,
        )
    if as_json:
        about = {"model": loaded.name, "digest": loaded.digest, "threat": str(ball)}
        emit(about | show.attack_json(result))
    else:
        show.attack_table(loaded.name, ball, result)


@app.command()
@verb
def certify(
    model: ModelFile,
    data: DataName,
    threat: Threat,
    split: Split = "test",
    ids: Ids = None,
    method: Annotated[
        str,
        typer.Option(
            help='"ibp", "crown-ibp", "crown", "alpha-crown", "complete": each tighter and slower '
            'than the one before; "smoothing": the vote under noise.'
        ),
    ] = "crown",
    sigma: Annotated[
        float | None, typer.Option(help="Of smoothing: the noise's standard deviation.")
    ] = None,
    copies: Annotated[
        int | None, typer.Option(min=1, help="Of smoothing: noisy copies.", show_default="100000")
    ] = None,
    radius: Annotated[
        bool, typer.Option("--radius", help="Bracket each sample's distance to the boundary too.")
    ] = False,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Prove samples safe: no perturbation in the threat model changes their label.

    **Examples**

    ```
    aisec-eval certify net.onnx --data digits --threat "linf 1/64"
    aisec-eval certify net.onnx --data digits --ids 0:32 --threat "l2 0.1" --method ibp --json
    aisec-eval certify net.onnx --data digits --threat "l2 0.5" --method smoothing --sigma 0.25
    ```
    """
    from .attacks.lattice import spacing_of
    from .certifiers import certify as run_certify

    samples = options.load_data(data, split, ids)
    loaded = _load_model(model, samples)
    ball = options.parse_threat(threat, samples.bounds)
    with progress(quiet=as_json) as update:
        result = run_certify(
            loaded,
            samples.x,
            samples.y,
            ball,
            method=options.parse_certifier(method, sigma, copies, seed, spacing_of(samples)),
            radius=radius,
            sample_ids=samples.ids,
            progress=update,
        )
    if as_json:
        about = {"model": loaded.name, "digest": loaded.digest, "threat": str(ball)}
        emit(about | show.certify_json(result))
    else:
        show.certify_table(loaded.name, ball, result)


@app.command()
@verb
def verify(
    model: ModelFile,
    prop: Annotated[
        Path,
        typer.Argument(
            metavar="PROPERTY", help="A .vnnlib or .vnnlib.gz file.", show_default=False
        ),
    ],
    timeout: Annotated[float, typer.Option(help="Seconds, starting and loading included.")] = 60.0,
    seed: Seed = 0,
    certificate: Annotated[
        Path | None,
        typer.Option(help="Write the certificate of an unsat to this file, for `check`."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Decide whether a network can violate a VNNLIB property.

    Prints what VNN-COMP asks for: unsat (it cannot), sat and a counterexample, unknown, or
    timeout. Why an answer is unknown goes to standard error. Every answer is exit code 0.

    **Examples**

    ```
    aisec-eval verify net.onnx property.vnnlib --timeout 116
    aisec-eval verify net.onnx property.vnnlib.gz --json > result.json
    aisec-eval verify net.onnx property.vnnlib --certificate prop.cert.gz
    ```
    """
    from .certifiers.verify import verify as run_verify

    # What is left once the command has started, or next to nothing.
    timeout = max(timeout - clock.spent(), min(timeout, 1e-3))
    with progress(quiet=as_json) as update:
        result = run_verify(
            model, prop, timeout=timeout, seed=seed, certificate=certificate, progress=update
        )
    if certificate is not None and result.status == "unsat" and result.certificate is None:
        complain("no certificate: its proof is too large to be kept")
    if as_json:
        emit(show.verify_json(result))
    else:
        show.verify_lines(result)
        if result.reason:
            complain(f"unknown: {result.reason}")


@app.command()
@verb
def scan(
    data: Annotated[
        str,
        typer.Argument(help='"digits", or a .npz, .npy or Parquet file.', show_default=False),
    ],
    split: Split = "train",
    labels: Annotated[
        str | None,
        typer.Option(help="Label column of a Parquet file, or .npy of labels beside a .npy file."),
    ] = None,
    method: Annotated[str, typer.Option(help="Detector.")] = "spectral",
    rate: Annotated[
        float | None, typer.Option(help="At most this fraction of any class is poisoned.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Most suspicious samples to list.")] = 10,
    out: Annotated[
        Path | None,
        typer.Option(help="New folder for scores, report.html and kept.npy: samples to keep."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Score training samples for poison and say whether the dataset looks tampered with.

    Parquet and .npy files are read batch by batch. What is left to train on goes to kept.npy: ids
    of samples, or row numbers of files, that are not flagged.

    **Examples**

    ```
    aisec-eval scan digits --rate 0.05
    aisec-eval scan features.parquet --labels label --top 50
    aisec-eval scan features.parquet --method auto --out runs/scan
    ```
    """
    from .detectors import scan as run_scan
    from .runs import check_new

    if out is not None:
        check_new(out)
    features, given, ids = options.scan_source(data, split, labels)
    with progress(quiet=as_json) as update:
        result = run_scan(features, given, method=method, rate=rate, progress=update)
    names = range(len(result.score)) if ids is None else ids
    written = None if out is None else folders.write_scan(out, data, split, labels, result, ids)
    if as_json:
        kept = {"ids": list(names), "out": written and str(written)}
        emit({"data": data} | show.scan_json(result) | kept)
    else:
        show.scan_table(result, names, top)
        if written is not None:
            line(f"scores, kept.npy and report.html: {written}")


for _verb_of_folders in (folders.report, folders.bundle, folders.check, folders.leaderboard):
    app.command()(_verb_of_folders)


@app.command()
@verb
def doctor(as_json: Json = False) -> None:
    """Say what this machine offers: versions, devices, threads, memory, Ray; and what is missing.

    **Example**

    ```
    aisec-eval doctor
    ```
    """
    from ._cli.doctor import examine

    findings = examine()
    if as_json:
        emit([vars(finding) for finding in findings])
    else:
        table(
            "",
            ("what", "found", "", "do"),
            [(f.what, f.found, "" if f.state == "ok" else f.state, f.advice) for f in findings],
            left=4,
        )
    raise typer.Exit(2 if any(finding.state == "bad" for finding in findings) else 0)


def _load_model(path: Path, samples: Any) -> Any:
    loaded = options.load_checked_model(path, samples)
    for warning in loaded.report.warnings:
        complain(f"warning: {warning}")
    return loaded


def main() -> None:
    """Run the command line."""
    clock.command_started()
    app()


if __name__ == "__main__":
    main()
