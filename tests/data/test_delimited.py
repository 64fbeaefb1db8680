"""Tables of text: whatever a usual program writes is read as it was meant, or refused by the option that says it."""

from __future__ import annotations

import io
import re

import numpy as np
import pandas as pd
import pytest

import probclust as pc
from probclust.cli.main import main

X = np.random.default_rng(0).random((40, 3)).round(3)
COUNTS = np.random.default_rng(1).poisson(5.0, (40, 3))
FRAME = pd.DataFrame(X, columns=["a", "b", "c"])


def read(folder, text, suffix=".csv", encoding="utf-8", **options):
    path = folder / f"t{suffix}"
    path.write_bytes(text.encode(encoding))
    return pc.data.read(path, **options)


def numbered(x, columns=None):
    return pd.DataFrame(x, columns=columns)


TABLES = {
    "wavelengths": (numbered(X, [400, 410, 420]).to_csv(index=False), ["400", "410", "420"], X),
    "wavelengths with decimals": (
        numbered(X, [400.25, 412.5, 431.0]).to_csv(index=False),
        ["400.25", "412.5", "431.0"],
        X,
    ),
    "years": (numbered(np.tile(COUNTS, 2), range(1990, 1996)).to_csv(index=False), None, np.tile(COUNTS, 2)),
    "years above numbers as large": (
        numbered(np.tile(COUNTS, 2) * 400, range(1990, 1996)).to_csv(index=False),
        [str(year) for year in range(1990, 1996)],
        np.tile(COUNTS, 2) * 400,
    ),
    "an array": (numbered(X).to_csv(index=False), ["0", "1", "2"], X),
    "an array in another order": (numbered(X)[[2, 0, 1]].to_csv(index=False), ["2", "0", "1"], X[:, [2, 0, 1]]),
    "an array and its index": (numbered(X).to_csv(), ["0", "1", "2"], X),
    "counts and their index": (numbered(COUNTS).to_csv(), ["0", "1", "2"], COUNTS),
    "images": (numbered(np.tile(COUNTS, 4)).to_csv(index=False), [str(i) for i in range(12)], np.tile(COUNTS, 4)),
    "an id and numbers": (FRAME.to_csv(index=False).replace("a,b,c", "a,0,1"), ["a", "0", "1"], X),
    "names": (FRAME.to_csv(index=False), ["a", "b", "c"], X),
    "names and an index": (FRAME.to_csv(), ["a", "b", "c"], X),
    "a shuffled index": (
        FRAME.sample(frac=1, random_state=0).to_csv(),
        ["a", "b", "c"],
        FRAME.sample(frac=1, random_state=0),
    ),
    "an index of text": (FRAME.set_axis([f"row {i}" for i in range(40)]).to_csv(), ["a", "b", "c"], X),
    "an index of two": (
        FRAME.set_axis(pd.MultiIndex.from_product([range(4), range(10)])).to_csv(),
        ["a", "b", "c"],
        X,
    ),
    "Unnamed: 0": (pd.read_csv(io.StringIO(FRAME.to_csv())).to_csv(index=False), ["a", "b", "c"], X),
    "written twice": (pd.read_csv(io.StringIO(FRAME.to_csv())).to_csv(), ["a", "b", "c"], X),
    "R's write.csv": ('"","a"\n"1",0.5\n"2",1\n', ["a"], [[0.5], [1]]),
    "R's write.table": ('"a" "b"\n"1" 0.5 3\n"2" 1 4\n', ["a", "b"], [[0.5, 3], [1, 4]]),
    "rows alone": (numbered(X).to_csv(index=False, header=False), None, X),
    "counts alone": (numbered(COUNTS[1:]).to_csv(index=False, header=False), None, COUNTS[1:]),
    "a first row of NA": ("NA,0.5,1.5\n" + FRAME.to_csv(index=False, header=False), None, [[np.nan, 0.5, 1.5], *X]),
    "a first row with gaps": (",0.5,\n" + FRAME.to_csv(index=False, header=False), None, [[np.nan, 0.5, np.nan], *X]),
    "two rows": ("1,2\n3,4\n", None, [[1, 2], [3, 4]]),
    "rows at even steps": ("1,2,3\n4,5,6\n7,8,9\n", None, [[1, 2, 3], [4, 5, 6], [7, 8, 9]]),
    "one row": ("1,2,3\n", None, [[1, 2, 3]]),
    "one column": ("0.5\n0.25\n", None, [[0.5], [0.25]]),
    "blank lines": ("\n\na,b\n1,2\n\n3,4\n\n", ["a", "b"], [[1, 2], [3, 4]]),
    "comments": ("# by me, on Monday\n#\na,b\n1,2\n# 5,6\n3,4\n", ["a", "b"], [[1, 2], [3, 4]]),
    "quoted cells": ('"a, in m","b ""x"""\n"1","2"\n', ["a, in m", 'b "x"'], [[1, 2]]),
    "blanks in cells": (" a , b \n1,  2\n3 ,4\n", ["a", "b"], [[1, 2], [3, 4]]),
    "truth": ("a,smoker\n1,True\n2,\n3,False\n", ["a", "smoker"], [[1, 1], [2, np.nan], [3, 0]]),
    "true first": ("True,1.5\nFalse,2.5\n", None, [[1, 1.5], [0, 2.5]]),
    "semicolons": ("a;b\n0.5;1\n2;3\n", ["a", "b"], [[0.5, 1], [2, 3]]),
    "tabs": ("a\tb\n0.5\t1\n2\t3\n", ["a", "b"], [[0.5, 1], [2, 3]]),
    "bars": ("a|b\n0.5|1\n2|3\n", ["a", "b"], [[0.5, 1], [2, 3]]),
    "separators at the ends": ("a,b,\n1,2,\n3,4,\n", ["a", "b"], [[1, 2], [3, 4]]),
    "Windows' line ends": ("a,b\r\n1,2\r\n3,4\r\n", ["a", "b"], [[1, 2], [3, 4]]),
    "a mark of the byte order": ("\ufeffa,b\n1,2\n", ["a", "b"], [[1, 2]]),
}


@pytest.mark.parametrize("name", TABLES)
def test_usual_tables_are_read_as_they_were_meant(name, tmp_path):
    text, names, expected = TABLES[name]
    x, y = read(tmp_path, text)
    assert y is None
    if name != "years":
        assert list(x.columns) == (names or list(range(x.shape[1])))
    np.testing.assert_array_equal(x.to_numpy(dtype=float, na_value=np.nan), np.asarray(expected, dtype=float))


def test_numpys_own_text(tmp_path):
    for options in ({}, {"delimiter": ","}, {"delimiter": "\t", "header": "a\tb\tc"}):
        np.savetxt(tmp_path / "t.csv", X, **options)
        np.testing.assert_array_equal(pc.data.read(tmp_path / "t.csv")[0], X)


OPTIONS = {
    "header": (numbered(COUNTS).to_csv(index=False), {"header": True}, ["0", "1", "2"], COUNTS),
    "no header": (
        "0,1,2\n" + numbered(COUNTS).to_csv(index=False, header=False),
        {"header": False},
        None,
        [[0, 1, 2], *COUNTS],
    ),
    "index by name": (FRAME.to_csv(index_label="id"), {"index": "id"}, ["a", "b", "c"], X),
    "index first": (FRAME.to_csv(header=False), {"index": True}, [1, 2, 3], X),
    "no index": (FRAME.to_csv(index_label="id"), {"index": False}, ["id", "a", "b", "c"], np.c_[np.arange(40), X]),
    "separator": ("0,5;1\n2,5;3\n", {"separator": ";", "decimal": ","}, None, [[0.5, 1], [2.5, 3]]),
    "tab": ("a\tb\n1\t2\n", {"separator": "tab"}, ["a", "b"], [[1, 2]]),
    "space": ("a  b\n1   2\n", {"separator": "space"}, ["a", "b"], [[1, 2]]),
    "decimal": ("a;b\n0,5;1\n2,5;3\n", {"decimal": ","}, ["a", "b"], [[0.5, 1], [2.5, 3]]),
    "columns": (FRAME.to_csv(index=False), {"columns": ["c", "a"]}, ["c", "a"], X[:, [2, 0]]),
    "drop": (FRAME.assign(text="x").to_csv(index=False), {"drop": ["b", "text"]}, ["a", "c"], X[:, [0, 2]]),
    "drop by number": (FRAME.to_csv(index=False, header=False), {"drop": "1"}, [0, 2], X[:, [0, 2]]),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_say_what_cannot_be_told(name, tmp_path):
    text, options, names, expected = OPTIONS[name]
    x, _ = read(tmp_path, text, **options)
    assert list(x.columns) == (names or list(range(x.shape[1])))
    np.testing.assert_array_equal(x, expected)


def test_encodings(tmp_path):
    for encoding in ("cp1252", "utf-16"):
        with pytest.raises(
            ValueError, match=r"not encoded in utf-8 .* give its encoding, such as 'cp1252' or 'utf-16'"
        ):
            read(tmp_path, "größe,b\n1,2\n", encoding=encoding)
        (tmp_path / "t.csv").write_bytes("größe,b\n1,2\n".encode(encoding))
        assert list(pc.data.read(tmp_path / "t.csv", encoding=encoding)[0].columns) == ["größe", "b"]
    with pytest.raises(ValueError, match=r"encoding must be the name of one .* got 'klingon'"):
        pc.data.read(tmp_path / "t.csv", encoding="klingon")
    with pytest.raises(ValueError, match="give encoding='utf-16'"):
        read(tmp_path, "a,b\n1,2\n", encoding="utf-16-le")


@pytest.mark.parametrize("suffix", [".csv.gz", ".csv.bz2", ".csv.xz", ".csv.zip", ".tsv", ".tsv.gz", ".CSV"])
def test_compressed_tables_and_tabs(suffix, tmp_path):
    path = tmp_path / f"t{suffix}"
    FRAME.to_csv(path, index=False, sep="\t" if ".tsv" in suffix else ",")
    np.testing.assert_array_equal(pc.data.read(path)[0], X)
    if suffix.count(".") == 2:
        path.write_bytes(b"not compressed")
        with pytest.raises(ValueError, match="cannot be read, or it is damaged"):
            pc.data.read(path)


COUNTED = FRAME.to_csv(header=False)
REFUSED = {
    "0, 1, 2 above counts": (
        numbered(COUNTS).to_csv(index=False),
        "0, 1, 2, may be a row .* give header=True or header=False",
    ),
    "0, 1 above bits": (numbered(COUNTS[:, :2] % 2).to_csv(index=False), "give header=True or header=False"),
    "a few years": (numbered(COUNTS * 400, [1990, 2000, 2010]).to_csv(index=False), "give header=True or"),
    "text first": ("?,0.5,1.5\n" + FRAME.to_csv(index=False, header=False), "give header=True or header=False"),
    "an index without names": (
        COUNTED,
        "column '0' .* counts the rows: give index=True if it is no feature, else index=False",
    ),
    "an index by name": (FRAME.to_csv(index_label="id"), "column 'id' .* counts the rows: give index=True"),
    "a column without a name": ("a,,b\n1,2,3\n", "column 2 .* has no name"),
    "names twice": ("a,b,a\n1,2,3\n", r"columns \[1, 3\] .* the name 'a'"),
    "decimal commas": ("a;b\n0,5;1,2\n", "'0,5' in column 'a', line 2; give decimal=','"),
    "decimal commas alone": ("0,5;1,2\n0,2;0,3\n", "between ',' or ';': give separator, and decimal=','"),
    "quoted decimal commas": ('a,b\n"0,5",2\n', "'0,5' in column 'a', line 2; give decimal=','"),
    "one bad cell": (
        "a,b\n" + "1,2\n" * 5000 + "\n0.3,?\n" + "1,2\n" * 5000,
        r"'\?' in column 'b', line 5003; correct it",
    ),
    "a bad cell below comments": ('# x\n\n"a","b"\n1,"2"\n# y\n"3",z\n', "'z' in column 'b', line 6"),
    "a bad cell below a line end": ('"a\nm",b\n1,2\n3,x\n', "'x' in column 'b', line 4"),
    "units": ("a,b\nkg,m\n1,2\n", "'kg' in column 'a', line 2"),
    "a short line": ("a,b\n1,2\n3\n4,5\n", "2 cells in each line, got 1 in line 3"),
    "a long line": ("a,b\n1,2\n3,4,5\n", "2 cells in each line, got 3 in line 3"),
    "a row like a comment": (
        "name,a,b\ncat,0.1,0.2\n#dog,0.3,0.2\n",
        "line 3 .* looks like a row; quote its first cell",
    ),
    "nothing left": ("a,b\n1,2\n", "no column left", {"drop": ["a", "b"]}),
    "no such column": ("a,b\n1,2\n", "no column 'c' to drop; its columns are: a, b", {"drop": ["c"]}),
    "taken and dropped": ("a,b\n1,2\n", "each feature once, got 'a'", {"columns": ["a"], "drop": ["a"]}),
    "a long separator": (
        "a,b\n1,2\n",
        "separator must be one character, 'tab' or 'space', got '::'",
        {"separator": "::"},
    ),
    "a wrong decimal": ("a,b\n1,2\n", r"decimal must be '\.' or ',', got ';'", {"decimal": ";"}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_told_is_refused_with_the_remedy(name, tmp_path):
    text, said, *options = REFUSED[name]
    with pytest.raises(ValueError, match=said):
        read(tmp_path, text, **(options[0] if options else {}))


def test_columns_of_text_are_refused(tmp_path):
    for text in ("a,t\n1,2020-01-01\n2,2020-01-02\n", "a,t\n1,x\n2,y\n"):
        with pytest.raises(TypeError, match=r"in column 't', line 2; leave out text \(drop=\['t'\]\)"):
            read(tmp_path, text)
    with pytest.raises(TypeError, match="header must be True, False or None, got 'yes'"):
        read(tmp_path, "a,b\n1,2\n", header="yes")


def test_columns_of_long_tables_are_of_one_type(tmp_path):
    labels = ["1"] * 300_000 + ["a"] * 300_000
    text = "a,y\n" + "".join(f"0.5,{label}\n" for label in labels)
    _, y = read(tmp_path, text, label="y")
    assert set(y) == {"1", "a"}
    with pytest.raises(ValueError, match="'a' in column 'y', line 300002"):
        pc.data.read(tmp_path / "t.csv")


def test_labels_of_tables_without_names(tmp_path):
    x, y = read(tmp_path, "0.1,0.2,cat\n0.3,0.1,dog\n0.5,0.1,cat\n", label="2")
    assert list(x.columns) == [0, 1]
    assert y.tolist() == ["cat", "dog", "cat"]
    x, y = read(tmp_path, numbered(np.c_[X, np.arange(40) % 3]).to_csv(index=False, header=False), label="3")
    assert x.shape == (40, 3)


def test_the_command_line_takes_the_options_and_remembers_them(tmp_path, capsys):
    def run(*words):
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in words])
        said = capsys.readouterr()
        return stop.value.code, said.out + said.err

    data, folder, page = tmp_path / "t.csv", tmp_path / "run", tmp_path / "page.html"
    table = numbered(np.c_[np.arange(40), COUNTS + 0.5, np.arange(40) % 2], ["id", 0, 1, 2, "kind"])
    table.assign(text="x").to_csv(data, index=False, sep=";", decimal=",")
    words = ["--data", data, "--separator", ";", "--decimal", ",", "--header", "--index", "id", "--drop", "text"]
    assert run("fit", "gmm", *words[:-2], "--label", "kind", "--out", folder)[0] == 2
    words += ["--label", "kind"]
    code, said = run("fit", "gmm", *words, "--clusters", 2, "--epochs", 1, "--out", folder)
    assert code == 0, said
    assert pc.load(folder / "story.safetensors").feature_names == ("0", "1", "2")
    for command in ("evaluate", "compare"):
        code, said = run(command, folder, *words)
        assert code == 0, said
    assert "40, those it was fitted to" in run("evaluate", folder, *words)[1]
    code, said = run("report", folder, "--out", page)
    assert code == 0, said
    again = re.search(r"<pre><code>(.*?)</code>", page.read_text())[1]
    for words in ("--separator", "--decimal ,", "--header", "--index id", "--drop text", "--label kind"):
        assert words in again
    assert "--separator is for tables in files" in run("evaluate", folder, "--data", "digits", "--separator", ";")[1]
