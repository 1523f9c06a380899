"""The `twinspect` command."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from cell.commands.candidate import candidate_app
from cell.commands.records import DEFAULT_RECORDS, Records, records_app
from cell.commands.users import DEFAULT_USERS, Users, users_app

# Each command imports what it needs when it runs: `--help` answers without loading the network's libraries.

app = typer.Typer(
    name="twinspect",
    help="Inspect moulded parts with a robot and a camera, in simulation or on the real cell.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(records_app)
app.add_typer(candidate_app)
app.add_typer(users_app)

Cell = Annotated[str, typer.Option(help="Cell: a name under assets/cells or the path of a cell file.")]
Part = Annotated[str, typer.Option(help="Part: a name under assets/parts or the path of a part file.")]
Count = Annotated[int, typer.Option(min=1, help="Number of parts.")]
Seed = Annotated[int, typer.Option(min=0, help="Everything random follows from it.")]
Production = Annotated[str, typer.Option(help="What the part source makes: a name under assets/production or a path.")]
Dataset = Annotated[
    Path,
    typer.Argument(help="A folder that `collect` wrote, or pictures in the MVTec layout (train/good, test/...)."),
]
ClearedBy = Annotated[
    str | None, typer.Option(help="Who saw to it that hand and scale are empty, and takes what the hand lets go.")
]
Model = Annotated[Path, typer.Option(help="Folder that `train` wrote.")]


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option(help="Folder for pictures, models and the report; an earlier demo there is replaced.")
    ] = Path("runs/demo"),
    seed: Seed = 0,
) -> None:
    """Collect good parts, train, inspect unseen good and defective parts, and write a report."""
    from cell.commands.demo import run_demo

    run_demo(out, seed)


@app.command()
def collect(
    cell: Cell,
    part: Part,
    count: Count,
    out: Annotated[Path, typer.Option(help="New or empty folder for the dataset.")],
    production: Production = "good",
    seed: Seed = 0,
    cleared_by: ClearedBy = None,
) -> None:
    """Take the pictures of parts and write them as a dataset."""
    from cell.commands.collect import run_collect

    run_collect(cell, part, count, out, production, seed, cleared_by)


@app.command()
def train(
    dataset: Dataset,
    out: Annotated[Path, typer.Option(help="Folder for the model; an earlier model there is replaced.")],
    config: Annotated[
        str,
        typer.Option(help="Preprocessing, scores, vote and threshold: a name under assets/detection or a path."),
    ] = "default",
    backbone: Annotated[str, typer.Option(help="efficientnet_lite0 or resnet18.")] = "efficientnet_lite0",
    weights: Annotated[
        Path | None,
        typer.Option(help="The backbone's weights (.pth or .safetensors) instead of the pretrained ones."),
    ] = None,
    resolution: Annotated[int, typer.Option(help="256, 512 or 1024: side of the network's input.")] = 256,
    features: Annotated[
        int | None,
        typer.Option(min=1, help="With covariances of `position`: so many random channels out of all layers; 100."),
    ] = None,
    train_parts: Annotated[int | None, typer.Option(min=2, help="Use only the first so many good parts.")] = None,
    precision: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    network: Annotated[
        str, typer.Option(help="How the network computes: exact, folded, bfloat16, or auto by precision and processor.")
    ] = "auto",
    keep_state: Annotated[
        bool,
        typer.Option(
            "--keep-state",
            help="Keep what `candidate make` continues from: three times as much disk as the models, or with "
            "covariances of `position` as much again as float32 ones.",
        ),
    ] = False,
    seed: Seed = 0,
) -> None:
    """Train a model for each view on good parts alone, and set the threshold."""
    from cell.commands.train import run_train

    run_train(
        dataset,
        out,
        config=config,
        weights=weights,
        train_parts=train_parts,
        keep_state=keep_state,
        model={
            "backbone": backbone,
            "resolution": resolution,
            **({} if features is None else {"n_features": features}),
            "precision": precision,
            "network": network,
            "seed": seed,
        },
    )


@app.command()
def evaluate(
    dataset: Dataset,
    model: Model,
    json: Annotated[Path, typer.Option(help="File for the figures.")],
) -> None:
    """Measure a model on parts whose truth is known and which it has not seen."""
    from cell.commands.evaluate import run_evaluate

    run_evaluate(dataset, model, json)


@app.command()
def inspect(
    cell: Cell,
    part: Part,
    model: Model,
    count: Count,
    production: Production = "mixed",
    records: Records = DEFAULT_RECORDS,
    seed: Seed = 1,
    cleared_by: ClearedBy = None,
) -> None:
    """Bring parts through the cell, give each a verdict and sort it."""
    from cell.commands.inspect import run_inspect

    run_inspect(cell, part, model, count, production, records, seed, cleared_by)


@app.command()
def check(
    cell: Cell,
    part: Part = "ring",
    out: Annotated[Path, typer.Option(help="Folder for report.md and report.json.")] = Path("runs/check"),
    challenge: Annotated[
        str | None,
        typer.Option(
            help="Inspect known good and defective parts with --model, and release the line if every verdict is right: "
            "a name under assets/production or a path."
        ),
    ] = None,
    model: Annotated[Path | None, typer.Option(help="For the challenge: folder that `train` wrote.")] = None,
    records: Records = DEFAULT_RECORDS,
    seed: Seed = 2,
    cleared_by: ClearedBy = None,
    record_scale: Annotated[
        Path | None,
        typer.Option(help="Check nothing; write what the scale sends, and a dialect proposed from it, to this file."),
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, help="How long to record the scale.")] = 60.0,
) -> None:
    """Try every device of a cell with small and safe actions, or the line with known parts."""
    from cell.commands.check import run_check, run_recording

    if challenge is not None:
        from cell.commands.challenge import run_challenge

        if model is None:
            raise typer.BadParameter("--challenge needs --model")
        run_challenge(cell, part, model, challenge, records, seed, out, cleared_by)
    elif record_scale is not None:
        run_recording(cell, part, record_scale, seconds)
    else:
        run_check(cell, part, out)


@app.command()
def serve(
    records: Records = DEFAULT_RECORDS,
    cell: Annotated[str | None, typer.Option(help="Own the line of this cell; without, the page only reads.")] = None,
    part: Annotated[str | None, typer.Option(help="Part: a name under assets/parts or the path of a file.")] = None,
    model: Annotated[Path | None, typer.Option(help="Folder that `train` wrote.")] = None,
    production: Production = "mixed",
    seed: Seed = 1,
    host: Annotated[str, typer.Option(help="Address to answer at; any but this machine's own needs users.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8080,
    tls_cert: Annotated[
        Path | None, typer.Option(help="Certificate (PEM), for HTTPS; any address but this machine's own needs it.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key (PEM).")] = None,
    users: Users = DEFAULT_USERS,
) -> None:
    """Show the operator's page in a browser."""
    from cell.commands.serve import run_serve

    run_serve(records, cell, part, model, production, seed, host, port, tls_cert, tls_key, users)


@app.command()
def calibrate(
    cell: Cell,
    board: Annotated[str, typer.Option(help="The calibration board: a part file with a pattern.")] = "board",
    part: Annotated[str, typer.Option(help="Errors are told in pixels of this part's crop.")] = "ring",
    out: Annotated[
        Path | None, typer.Option(help="The cell file to write; without it the cell's own, of which a copy is kept.")
    ] = None,
    seed: Seed = 0,
    cleared_by: ClearedBy = None,
) -> None:
    """Find camera, its mounting and the arm's geometry from a ChArUco board that the arm shows to the camera."""
    from cell.commands.calibrate import run_calibrate

    run_calibrate(cell, board, part, out, seed, cleared_by)


@app.command()
def teach(
    cell: Cell,
    part: Part,
    out: Annotated[
        Path | None, typer.Option(help="The part file to write; without it the part's own, of which a copy is kept.")
    ] = None,
    poses: Annotated[
        Path | None, typer.Option(help="Joint positions by the names of grasp points and views, instead of guiding.")
    ] = None,
) -> None:
    """Write grasp points and views, to which a person guides the arm, into a part file."""
    from cell.commands.teach import run_teach

    run_teach(cell, part, out, poses)


def main() -> None:
    """Run the command; a refusal is one sentence on standard error and exit code 1, wrong usage is 2."""
    from cell.commands.console import answering

    def leave(signum: int, frame: object) -> None:
        # Asked for twice, as `timeout` does, it must not interrupt the way out.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.exit(128 + signum)

    # An end asked for by the system must run the same ways out as Ctrl-C: devices, copies, half-written files.
    signal.signal(signal.SIGTERM, leave)
    with answering():
        app()
