"""`probclust stories`: the stories there are."""

from __future__ import annotations


def stories() -> None:
    """List the stories, one line each."""
    import inspect

    from rich.table import Table

    from probclust.commands.options import console
    from probclust.registry import story_class, story_names

    table = Table("name", "story", box=None, pad_edge=False)
    for name in story_names():
        table.add_row(name, (inspect.getdoc(story_class(name)) or "").partition("\n")[0])
    console().print(table)
