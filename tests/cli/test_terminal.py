"""What the command line prints under other encodings than UTF-8, and on narrow terminals."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from rich.table import Table

import probclust as pc
from probclust.cli import terminal
from probclust.cli.main import main
from probclust.cli.page.table import rich_table


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of an awkward name with rows whose labels are long, and a run."""
    folder = tmp_path_factory.mktemp("d") / "l\u00e4bels 'and' runs"
    folder.mkdir()
    data = pc.data.blobs(n_rows=100, n_features=3, n_clusters=4, seed=1)
    names = np.array([f"a l\u00e4bel number {k} that goes on and on" for k in range(4)])
    np.savez(folder / "d\u00e4ta.npz", x=data.x, y=names[data.y])
    with pytest.raises(SystemExit):
        main(
            [
                "fit",
                "gmm",
                "--data",
                str(folder / "d\u00e4ta.npz"),
                "--out",
                str(folder / "r\u00fcn"),
                "--clusters",
                "4",
            ]
        )
    return folder


def said_by(monkeypatch, encoding, *words):
    """What a command prints on an output of that encoding, as bytes."""
    out, error = io.BytesIO(), io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding=encoding, write_through=True))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(error, encoding=encoding, write_through=True))
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    return stop.value.code, out.getvalue(), error.getvalue()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_commands_print_in_any_encoding(folder, encoding, monkeypatch):
    sign = "+/-" if encoding == "ascii" else "\u00b1"
    for command in ("compare", "evaluate"):
        given = (folder / "r\u00fcn", "--data", folder / "d\u00e4ta.npz", "--particles", 2)
        code, out, error = said_by(monkeypatch, encoding, command, *given)
        assert code == 0, error
        assert f" {sign} " in out.decode(encoding), command
    code, _, error = said_by(monkeypatch, encoding, "evaluate", folder / "\u00e4", "--data", "digits")
    assert code == 2
    assert b"holds no finished run" in error


def test_signs_that_an_encoding_lacks_are_spelled_out(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    terminal.spell_out()
    print("\u22127.70 \u00b1 0.09 \u2265 \u2026 \u00fc \udce9", flush=True)
    assert raw.getvalue() == b"-7.70 +/- 0.09 >= ... \\xfc \xe9\n"


def test_no_number_is_cut_on_a_narrow_terminal(monkeypatch):
    frame = pc.compare({"a story of a long name": pc.models.GaussianMixture(3, 2)}, np.eye(3, dtype=np.float32))
    table = rich_table(frame)
    out = io.StringIO()
    out.isatty = lambda: True
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    terminal.show(table)
    said = out.getvalue()
    assert "\u2026" not in said
    for cell in ("a story of a long name", "log p(x)", "params", f"{frame['parameters'].iloc[0]}"):
        assert cell in said
    words = Table(box=None, show_header=False)
    words.add_row("what", "a long sentence that a narrow terminal breaks between its words")
    terminal.show(words)
    assert max(map(len, out.getvalue().splitlines()[-3:])) <= 40
