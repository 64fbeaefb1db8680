"""Pictures: grids of images as PNG, charts as SVG that take the colours of the page they stand in.

matplotlib is an optional package (extra `plot`), imported when a picture is drawn.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probclust.generate.image_grid import _matplotlib

_INK = "#010203"  # stands for the page's text colour until the SVG is written


def data_uri(png: bytes) -> str:
    """A PNG as the source of an <img>."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def scatter(points: NDArray[Any], clusters: NDArray[Any], n_clusters: int, title: str) -> str:
    """Points in the plane, coloured by cluster; the number of each cluster stands amid its points."""
    figure, axes = _chart(4.2, 3.6)
    colours = _colours(n_clusters)
    for k in range(n_clusters):
        mine = points[clusters == k]
        axes.scatter(*mine.T, s=9, color=colours[k], linewidths=0, alpha=0.8)
    for k in range(n_clusters):
        mine = points[clusters == k]
        if len(mine):
            x, y = np.median(mine, axis=0)
            badge = {"boxstyle": "circle,pad=0.25", "facecolor": "white", "edgecolor": colours[k], "linewidth": 1.5}
            number = axes.text(x, y, str(k), ha="center", va="center", fontsize=8, color="black", bbox=badge)
            number.set_in_layout(False)  # the layout is made before the axes know how far the points reach
    axes.set_axis_off()
    return _svg(figure, title)


def curves(lines: Mapping[str, Sequence[float]], title: str, kept: str | None = None) -> str:
    """Loss per epoch; one line for each restart, the kept one drawn strong."""
    figure, axes = _chart(4.2, 2.6)
    for number, (name, values) in enumerate(lines.items()):
        strong = kept is None or name == kept
        label = f"{name} (kept)" if name == kept and len(lines) > 1 else name
        marker = "o" if len(values) == 1 else None
        axes.plot(
            range(1, len(values) + 1),
            values,
            label=label,
            color=_colours(10)[number % 10],
            linewidth=1.8 if strong else 1.1,
            alpha=1 if strong else 0.65,
            marker=marker,
            zorder=3 if strong else 2,
        )
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss")
    axes.xaxis.get_major_locator().set_params(integer=True)
    if len(lines) > 1:
        axes.legend(frameon=False, fontsize=8, labelcolor=_INK)
    return _svg(figure, title)


def _colours(n: int) -> list[Any]:
    """Colours that can be told apart, on light and on dark ground."""
    from matplotlib import colormaps

    if n <= 10:
        return list(colormaps["tab10"].colors)  # type: ignore[attr-defined]
    return [colormaps["turbo"](value) for value in np.linspace(0.05, 0.95, n)]


def _chart(width: float, height: float) -> tuple[Any, Any]:
    """A figure of that size in inches with one pair of axes, apart from pyplot and its state."""
    _matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    for side, spine in axes.spines.items():
        spine.set_color(_INK)
        spine.set_alpha(0.35)
        spine.set_visible(side in ("left", "bottom"))
    axes.tick_params(colors=_INK, labelsize=8)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set_color(_INK)
        axis.label.set_fontsize(9)
    return figure, axes


def _svg(figure: Any, title: str) -> str:
    """The figure as an <svg> to stand in a page: scales to the page's width, in the page's text colour and font."""
    from html import escape

    matplotlib = _matplotlib()
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", text)
    unique = f"f{abs(hash_of(title)):x}-"  # ids must differ between the pictures of a page
    text = re.sub(r'\bid="', f'id="{unique}', text)
    text = re.sub(r'(xlink:href="|url\()#', rf"\g<1>#{unique}", text)
    head, body = text.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    return f'{head} role="img" aria-label="{escape(title, quote=True)}">{body}'


def hash_of(text: str) -> int:
    """A number for a text, the same in every process."""
    import zlib

    return zlib.crc32(text.encode())
