from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

pytest.importorskip("matplotlib")
from probclust.cli.page import figures


def scatter(title="clusters"):
    points = np.random.default_rng(0).normal(size=(30, 2))
    return figures.scatter(points, np.arange(30) % 3, 3, title)


def test_a_chart_is_well_formed_and_says_what_it_shows():
    chart = ElementTree.fromstring(scatter('rows & "clusters"'))
    assert chart.attrib["aria-label"] == 'rows & "clusters"'
    assert chart.attrib["role"] == "img"
    assert "width" not in chart.attrib
    assert [text.text for text in chart.iter("{http://www.w3.org/2000/svg}text")] == ["0", "1", "2"]


def test_clusters_on_opposite_sides_leave_room_for_the_axes():
    centres = np.where(np.arange(30)[:, None] % 2, [4.6, -2.7], [-4.1, 1.3])
    points = np.random.default_rng(0).normal(size=(30, 2)) + centres
    assert "<svg" in figures.scatter(points, np.arange(30) % 2, 2, "opposite")  # warnings are errors


def test_charts_take_the_colour_of_the_page():
    chart = figures.curves({"a": [3.0, 2.0], "b": [2.5, 1.0]}, "loss", kept="b")
    assert "currentColor" in chart
    assert "#010203" not in chart
    assert "b (kept)" in chart


def test_ids_of_two_charts_differ():
    ids = [set(identifiers(scatter(title))) for title in ("one", "two")]
    assert not ids[0] & ids[1]


def test_charts_repeat():
    assert scatter() == scatter()


def identifiers(chart):
    return [element.attrib["id"] for element in ElementTree.fromstring(chart).iter() if "id" in element.attrib]


def test_references_within_a_chart_hit():
    chart = ElementTree.fromstring(scatter())
    known = {element.attrib["id"] for element in chart.iter() if "id" in element.attrib}
    used = {v[1:] for e in chart.iter() for k, v in e.attrib.items() if k.endswith("href")}
    assert used
    assert used <= known


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'probclust\[plot\]'"):
        scatter()
