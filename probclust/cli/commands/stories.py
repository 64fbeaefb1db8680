"""`probclust stories`: the stories there are."""

from __future__ import annotations


def stories() -> None:
    """List the stories, one line each."""
    from rich.table import Table

    from probclust.cli.terminal import show
    from probclust.story.installed import installed_stories, summary

    table = Table("name", "story", box=None, pad_edge=False)
    for name, point in installed_stories().items():
        table.add_row(name, summary(point))
    show(table)
