"""`probclust sample`: draw rows from a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from probclust.cli.commands.options import ImageShape, RunPath, Seed, Stories, open_runs


def sample(
    run: RunPath,
    out: Annotated[
        Path,
        typer.Option("--out", metavar="FILE", help=".npz for arrays, .csv for a table, .png for a grid of images."),
    ],
    n: Annotated[
        int | None, typer.Option("-n", "--rows", min=1, help="Rows to draw; points of a path, 9 unless given.")
    ] = None,
    cluster: Annotated[
        int | None, typer.Option("--cluster", min=0, help="Draw from this cluster only; without it, from all.")
    ] = None,
    temperature: Annotated[
        float, typer.Option("--temperature", help="Below 1, draws are closer to the modes: densities to the power 1/T.")
    ] = 1.0,
    min_posterior: Annotated[
        float | None,
        typer.Option(
            "--min-posterior", help="Keep only draws whose p(cluster | x) reaches this (VaDE's paper: 0.999)."
        ),
    ] = None,
    path: Annotated[
        tuple[int, int] | None,
        typer.Option(
            "--path", metavar="CLUSTER CLUSTER", help="No draws: the way from one cluster's mode to another's."
        ),
    ] = None,
    modes: Annotated[bool, typer.Option("--modes", help="No draws: each cluster's mode.")] = False,
    seed: Seed = 0,
    image_shape: ImageShape = None,
    story: Stories = None,
) -> None:
    """Draw rows from a run. A .npz gets x, the cluster and the latents; a .csv the table; a .png the images."""
    suffix = out.suffix.lower()
    if suffix not in (".npz", ".csv", ".png"):
        raise ValueError(f"--out must end in .npz, .csv or .png, got {out}")
    if modes or path is not None:
        others: dict[str, Any] = {"--cluster": cluster, "--min-posterior": min_posterior}
        others |= {"--temperature": None if temperature == 1 else temperature}
        others |= {"-n": n, "--path": path} if modes else {}
        clash = [name for name, value in others.items() if value is not None]
        if clash:
            raise ValueError(f"--modes and --path draw nothing at random; leave out {', '.join(clash)}")
    if n is None and not modes and path is None:
        raise ValueError("-n is needed: the number of rows to draw")
    import numpy as np

    import probclust as pc
    from probclust.cli.source import checked_shape
    from probclust.data.writing import check_writable
    from probclust.story.columns import rows_of

    check_writable(out, "--out")

    [(_, (folder, fitted))] = open_runs([run], story).items()
    shape = checked_shape(image_shape, fitted.n_features)
    if suffix == ".png" and shape is None:
        stored = folder.record()["data"].get("image_shape")
        if not stored:
            raise ValueError("a .png needs rows that are images: give their --image-shape HxW, or write a .npz or .csv")
        shape = checked_shape("x".join(map(str, stored)), fitted.n_features)
    if suffix == ".png":
        from probclust.generate.image_grid import need_matplotlib

        need_matplotlib()
    drawn: Any
    if modes:
        drawn, what = pc.modes(fitted), f"the modes of {fitted.n_clusters} clusters"
    elif path is not None:
        drawn = pc.interpolate(fitted, *path, n=n or 9)
        what = f"{len(drawn)} rows from cluster {path[0]} to {path[1]}"
    else:
        drawn = pc.sample(
            fitted, n or 0, cluster=cluster, seed=seed, min_posterior=min_posterior, temperature=temperature
        )
        rejected = "" if min_posterior is None else f" ({drawn.rejected} further draws rejected)"
        what = f"{n} rows{'' if cluster is None else f' of cluster {cluster}'}{rejected}"
    out.parent.mkdir(parents=True, exist_ok=True)
    if suffix == ".png" and shape is not None:
        from probclust.generate.image_grid import write_png

        write_png(out, pc.to_images(fitted, drawn, shape))
    elif suffix == ".csv":
        frame = pc.to_frame(fitted, drawn)
        if modes:
            frame.insert(0, "cluster", range(fitted.n_clusters), allow_duplicates=True)
        frame.to_csv(out, index=False)
    elif isinstance(drawn, dict):
        arrays: dict[str, Any] = {name: value.numpy() for name, value in drawn.items()}
        np.savez_compressed(out, **(arrays | {"x": rows_of(fitted, drawn).numpy()}))
    else:
        np.savez_compressed(out, x=drawn.numpy())
    typer.echo(f"{out}: {what}")
