"""Draws the rooms from the contract in pyproject.toml: docs/rooms.svg, and the table in docs/architecture.md.

`python docs/developer/rooms.py` writes both; a test holds that they are what is written.
"""

from __future__ import annotations

import ast
import tomllib
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[2]
PICTURE, PAGE = ROOT / "docs" / "rooms.svg", ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- rooms: written by docs/developer/rooms.py -->", "<!-- end of rooms -->"
WIDTH, HEIGHT, GAP = 960, 40, 14
ROOM = 'fill="#e8eaf6" stroke="#3f51b5"'
MODULE = 'fill="#fff" stroke="#9e9e9e" stroke-dasharray="4 3"'
HEAD = (
    '<marker id="head" markerWidth="9" markerHeight="8" refX="4" refY="4" orient="auto">'
    '<path d="M0 0 L8 4 L0 8z"/></marker>'
)


def layers() -> list[list[str]]:
    """The layers from top to bottom, each a list of rooms and modules, as the contract has them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = next(c for c in project["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    return [[name.strip(" ()") for name in layer.split("|")] for layer in contract["layers"]]


def purpose(name: str) -> tuple[bool, str]:
    """Whether it is a room, and the first line of its docstring."""
    face = ROOT / "probclust" / name / "__init__.py"
    file = face if face.exists() else ROOT / "probclust" / f"{name}.py"
    doc = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return face.exists(), doc.partition("\n")[0]


def picture() -> str:
    """The layers as rows of boxes: what stands higher imports from what stands lower."""
    boxes, top = [], GAP
    for names in layers():
        width = (WIDTH - GAP * (len(names) + 1)) / len(names)
        for number, name in enumerate(names):
            left, (is_room, text) = GAP + number * (width + GAP), purpose(name)
            style = ROOM if is_room else MODULE
            boxes.append(
                f'<g><title>{escape(text)}</title><rect x="{left:.0f}" y="{top}" width="{width:.0f}" '
                f'height="{HEIGHT}" rx="5" {style}/><text x="{left + width / 2:.0f}" y="{top + 25}">{name}</text></g>'
            )
        top += HEIGHT + GAP
    arrow = f'<path d="M{WIDTH + 14} {GAP} V{top - 2 * GAP}" stroke="#616161" marker-end="url(#head)"/>'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + 110} {top}" role="img" '
            'font-family="sans-serif" font-size="15" text-anchor="middle">',
            "<title>The rooms of probclust: what stands higher imports from what stands lower</title>",
            f"<defs>{HEAD}</defs>",
            *boxes,
            arrow,
            f'<text x="{WIDTH + 60}" y="{top / 2:.0f}" fill="#616161">imports</text>',
            "</svg>\n",
        ]
    )


def table() -> str:
    """The rooms from top to bottom, one sentence each."""
    rows = [(name, *purpose(name)) for names in layers() for name in names]
    lines = ["| room | what it is for |", "| --- | --- |"]
    lines += [f"| `{name}/` | {text.replace('|', chr(92) + '|')} |" for name, is_room, text in rows if is_room]
    return "\n".join(lines)


def page() -> str:
    """docs/architecture.md with the table as it should be."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")
