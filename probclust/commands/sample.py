"""`probclust sample`: draw rows from a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from probclust.commands.options import ImageShape, RunPath, Seed, Stories, open_runs


def sample(
    run: RunPath,
    n: Annotated[int, typer.Option("-n", "--rows", min=1, help="Rows to draw.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help=".npz for arrays, or .png for a grid of images.")],
    cluster: Annotated[
        int | None, typer.Option("--cluster", min=0, help="Draw from this cluster only; without it, from all.")
    ] = None,
    min_posterior: Annotated[
        float | None,
        typer.Option(
            "--min-posterior", help="Keep only draws whose p(cluster | x) reaches this (VaDE's paper: 0.999)."
        ),
    ] = None,
    seed: Seed = 0,
    image_shape: ImageShape = None,
    story: Stories = None,
) -> None:
    """Draw rows from a run. A .npz gets x, the cluster and the latents; a .png the images."""
    if out.suffix.lower() not in (".npz", ".png"):
        raise ValueError(f"--out must end in .npz or .png, got {out}")
    import numpy as np

    import probclust as pc
    from probclust.sampling import rows_of
    from probclust.source import checked_shape

    [(_, (folder, fitted))] = open_runs([run], story).items()
    shape = checked_shape(image_shape, fitted.n_features)
    if out.suffix.lower() == ".png" and shape is None:
        stored = folder.record()["data"].get("image_shape")
        if not stored:
            raise ValueError("a .png needs rows that are images: give their --image-shape HxW, or write a .npz")
        shape = checked_shape("x".join(map(str, stored)), fitted.n_features)
    draws = pc.sample(fitted, n, cluster=cluster, seed=seed, min_posterior=min_posterior)
    x = rows_of(fitted, draws).numpy()
    out.parent.mkdir(parents=True, exist_ok=True)
    if shape is not None and out.suffix.lower() == ".png":
        from probclust.figures import image_grid, write_png

        write_png(out, image_grid(x, shape, columns=min(n, 10), scale=max(1, round(32 / max(shape)))))
    else:
        arrays: dict[str, Any] = {name: value.numpy() for name, value in draws.items()} | {"x": x}
        np.savez_compressed(out, **arrays)
    rejected = "" if min_posterior is None else f" ({draws.rejected} further draws rejected)"
    typer.echo(f"{out}: {n} rows{'' if cluster is None else f' of cluster {cluster}'}{rejected}")
