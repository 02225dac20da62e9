"""Arguments and options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
ModelFile = Annotated[Path, typer.Argument(help="An ONNX file.", show_default=False)]
DataName = Annotated[
    str,
    typer.Option("--data", help='"digits", or a .npz, .npy or Parquet file.', show_default=False),
]
Split = Annotated[str, typer.Option(help="Part of the dataset.")]
Ids = Annotated[
    str | None, typer.Option(help="Samples to use, as 0:100.", show_default="all of them")
]
Threat = Annotated[
    str,
    typer.Option(help='Norm and radius: "linf 8/255", "l2 0.5", "l1 2".', show_default=False),
]
DataFiles = Annotated[
    list[str] | None,
    typer.Option("--data", help="A dataset of a bundle that is a file, as ID=PATH."),
]
Seed = Annotated[int, typer.Option(min=0, help="Of every random number.")]
