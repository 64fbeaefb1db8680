from __future__ import annotations

import json
import re
import shlex
import sys
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

import probclust as pc
from probclust.cli.demonstration import Entry, run_demo, write_data
from probclust.cli.main import main
from probclust.cli.page.page import Told, page
from probclust.evaluation.findings import find
from tests.story.test_story_file import STORY
from tests.support.archives import arrays
from tests.support.stories import Poissons

pytest.importorskip("matplotlib")

VOID = {"meta", "img", "br", "link"}


class Checked(HTMLParser):
    """Checks that tags are closed in order; collects images, charts and references to elsewhere."""

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.charts, self.elsewhere, self.text = [], [], 0, [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        facts = dict(attributes)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append(facts)
        if tag == "svg":
            self.charts += 1
            assert facts["aria-label"]
        self.elsewhere += [v for k, v in attributes if k in ("src", "href") and not v.startswith("data:")]

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.text.append(text)


@pytest.fixture
def run(tmp_path):
    """Fits a Gaussian mixture with the command line; its folder."""

    def run(name, x, y=None, *options):
        data = tmp_path / f"{name}.npz"
        np.savez(data, x=x, **({} if y is None else {"y": y}))
        fit = ["fit", "gmm", "--data", data, "--out", tmp_path / name, "--clusters", 3, "--epochs", 2, *options]
        command(*fit)
        return tmp_path / name

    return run


def command(*arguments):
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code


def blobs():
    return pc.data.blobs(n_rows=90, n_features=6, n_clusters=3, seed=3)


def test_a_page_of_images_is_whole_and_needs_nothing_else(run, tmp_path):
    data = blobs()
    folder = run("runs & more", data.x, data.y, "--image-shape", "2x3", "--restarts", 2)
    assert command("report", folder, "--out", tmp_path / "page.html") == 0
    text = (tmp_path / "page.html").read_text()
    found = Checked(text)
    assert len(found.images) == 3 + 2  # draws of each cluster, rows and their reconstructions
    assert all(image["alt"] and image["src"].startswith("data:image/png") for image in found.images)
    assert found.charts == 2  # the embedding, and the losses of the one training step
    assert [link for link in found.elsewhere if not link.startswith("#")] == []
    assert "<script" not in text
    words = " ".join(found.text)
    assert "runs & more" in words
    assert "the rows it was fitted to" in words
    assert "restart 2" in words


def test_a_page_of_other_data_has_no_images(run, tmp_path):
    one, other = run("one", blobs().x), run("two", blobs().x)
    assert command("report", one, other, "--data", tmp_path / "one.npz", "--out", tmp_path / "page.html") == 0
    found = Checked((tmp_path / "page.html").read_text())
    assert found.images == []
    assert found.charts == 4
    assert "ACC" not in " ".join(found.text)


def test_runs_of_different_data_need_to_be_told_the_rows(run, tmp_path, capsys):
    one, other = run("one", blobs().x), run("two", blobs().x)
    assert command("report", one, other, "--out", tmp_path / "page.html") == 2
    assert "--data" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::probclust.PrecisionWarning")
def test_a_page_says_whether_the_rows_are_those_of_the_fit(run, tmp_path, capsys):
    data, page = blobs(), tmp_path / "page.html"
    folder = run("one", data.x, data.y)

    def said(*options):
        assert command("report", folder, *options, "--out", page, "--particles", 1) == 0
        return " ".join(Checked(page.read_text()).text)

    np.savez(tmp_path / "copy.npz", x=data.x)
    assert "scored on the rows it was fitted to." in said("--data", tmp_path / "copy.npz")
    np.savez(tmp_path / "one.npz", x=data.x[::-1], y=data.y[::-1])
    assert f"scored on other rows than it was fitted to: {tmp_path}/one.npz has changed since" in said()
    far = run("far", np.random.default_rng(0).normal(4.5e6, 0.1, (90, 2)))
    assert pc.load(far / "story.safetensors").dtype == torch.float64
    assert command("evaluate", far, "--data", tmp_path / "far.npz") == 0
    assert "90, those it was fitted to" in capsys.readouterr().out
    np.savez(tmp_path / "other.npz", x=data.x + 1)
    assert f"scored on other rows than it was fitted to ({tmp_path}/one.npz)." in said("--data", tmp_path / "other.npz")
    capsys.readouterr()
    for name, whose in (("copy", "90, those it was fitted to"), ("one", "90, others than it was fitted to")):
        assert command("evaluate", folder, "--data", tmp_path / f"{name}.npz") == 0
        assert whose in capsys.readouterr().out


def test_the_seed_reaches_every_draw(tmp_path):
    x, data, run = blobs().x, tmp_path / "rows.npz", tmp_path / "run"
    np.savez(data, x=x)
    small = ["--set", "hidden=[8]", "--set", "latent_dim=2", "--recipe", "pretrain_epochs=1"]
    assert command("fit", "vade", "--data", data, "--clusters", 3, "--epochs", 1, "--out", run, *small) == 0
    story, shown = pc.load(run / "story.safetensors"), {}
    for seed in (0, 7):
        out = tmp_path / f"{seed}.html"
        assert command("report", run, "--seed", seed, "--particles", 1, "--out", out) == 0
        text = " ".join(Checked(out.read_text()).text)
        row = pc.compare({"run": story}, x, particles=1, seed=seed).loc["run"]
        shown[seed] = f"{row['log_likelihood']:,.2f} ± {row['se']:,.2f}".replace("-", "−")
        assert shown[seed] in text
        assert f"--seed {seed}" in text
        assert f"under seed {seed}." in text
    assert shown[0] != shown[7]


def test_what_users_name_is_escaped():
    story, x = Poissons(4, 3), torch.poisson(torch.full((9, 4), 2.0))
    found = pc.evaluate(story, x, ["<b>", "b", "'\"&"] * 3)
    told = Told(find("<b>", story, found, x, ["<b>", "b", "'\"&"] * 3), "<b>")
    text = page("<b>", "<b>", pc.compare({"<b>": found}), [told], ["<b>"], shape=(2, 2), notes=["<b>"], remarks=["<b>"])
    assert "<b>" not in text
    words = Checked(text).text
    assert words.count("<b>") == 3 + 2 + 2 + 2 + 2  # head and lead, table, heading, labels and matches, reproduction
    assert "'\"&" in words


# From Python


def test_a_strangers_story_is_reported(tmp_path):
    torch.manual_seed(0)
    story, other = Poissons(4, 3), Poissons(4, 2)
    x = torch.poisson(torch.full((60, 4), 2.0))
    y = ["a", "b", "c"] * 20
    record = {"mine": pc.fit(story, x, epochs=2), "other": pc.fit(other, x[:30], epochs=1)}
    out = tmp_path / "new folder" / "page.html"
    found = pc.report({"other": other, "mine": story}, x, y, out, particles=2, records=record, image_shape=(2, 2))
    assert list(found) == ["other", "mine"]
    assert found["mine"].accuracy == pc.metrics.accuracy(y, pc.predict(story, x))
    page = Checked(out.read_text())
    words = " ".join(page.text)
    assert page.elsewhere == [link for link in page.elsewhere if link.startswith("#")]
    assert len(page.images) == 3 + 2 + 2 + 2
    assert page.charts == 4
    assert "Poissons, scored on the rows it was fitted to." in words
    assert "Poissons, scored on other rows than it was fitted to." in words
    assert "2 fitted stories on 60 rows of 4 features." in words
    assert (
        "pc.report(stories, x, y, out='page.html', particles=2, seed=0, records=records, image_shape=(2, 2))" in words
    )
    without = pc.report({"mine": story}, x.numpy(), out=str(out))
    assert without["mine"].accuracy is None
    words = " ".join(Checked(out.read_text()).text)
    assert "Poissons, 3 clusters." in words
    assert "ACC" not in words


def test_a_data_set_tells_the_shape_of_its_images(tmp_path):
    digits = pc.data.load("digits")
    few = replace(digits, x=digits.x[:40], y=digits.y[:40])
    story = pc.models.GaussianMixture(64, 2, "spherical")
    pc.report({"gmm": story}, few, few.y, tmp_path / "page.html")
    assert len(Checked((tmp_path / "page.html").read_text()).images) == 2 + 2


def test_wrong_arguments_are_refused_before_any_work(tmp_path, monkeypatch):
    story, x, out = Poissons(4, 3), torch.poisson(torch.full((9, 4), 2.0)), tmp_path / "page.html"
    pc.predict(story, x)
    monkeypatch.setattr(Poissons, "model", None)
    refused = [
        ((([story], x), {}), TypeError, "must be a mapping"),
        ((({}, x), {}), ValueError, "at least one story"),
        ((({"a": (StandardScaler(), story)}, x), {}), TypeError, r"must be a probclust\.Story itself"),
        ((({"a": story}, x[:, :2]), {}), ValueError, "expected 4 features"),
        ((({"a": story}, x, [0, 1]), {}), ValueError, "one entry for each row"),
        ((({"a": story}, x), {"out": tmp_path / "page.pdf"}), ValueError, r"out must end in \.html"),
        ((({"a": story}, x), {"out": 3}), TypeError, "out must be the path"),
        ((({"a": story}, x), {"out": tmp_path}), ValueError, r"out must end in \.html"),
        ((({"a": story}, x), {"particles": 0}), ValueError, "particles must be"),
        ((({"a": story}, x), {"seed": 1.5}), ValueError, "seed must be"),
        ((({"a": story}, x), {"records": {}}), ValueError, "records must have the names"),
        ((({"a": story}, x), {"image_shape": (3, 3)}), ValueError, "need 9 columns, got 4"),
    ]
    for (arguments, options), error, message in refused:
        with pytest.raises(error, match=message):
            pc.report(*arguments, **{"out": out, **options})
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(IsADirectoryError, match="is a folder"):
        pc.report({"a": story}, x, out=tmp_path / "folder.html")
    assert not out.exists()


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'probclust\[plot\]'"):
        pc.report({"a": Poissons(4, 3)}, torch.ones(9, 4), out=tmp_path / "page.html")


# The demo


def test_the_demo_splits_at_random_and_keeps_its_noise_within_a_grey_level(tmp_path):
    from sklearn.datasets import load_digits

    train, held_out = (arrays(path) for path in write_data(tmp_path))
    assert len(train["x"]) == 1438
    x, y = (np.concatenate([train[name], held_out[name]]) for name in "xy")
    pixels = np.floor(17 * x.astype(np.float64) + 1e-6)
    digits = load_digits()
    order = np.lexsort(digits.data.T)
    found = np.lexsort(pixels.T)
    np.testing.assert_array_equal(pixels[found], digits.data[order])
    np.testing.assert_array_equal(y[found], digits.target[order])


def test_the_demo_leaves_stories_numbers_and_a_page(tmp_path, capsys):
    small = {"hidden": [16], "latent_dim": 2}
    few = {"recipe": {"pretrain_epochs": 1, "fit_epochs": 1, "epochs": 1}}
    entries = (Entry("gmm", {"covariance_type": "diag"}, {"epochs": 1}), Entry("vade", small, few))
    run_demo(tmp_path, seeds=2, jobs=1, entries=entries, particles=3)
    results = json.loads((tmp_path / "results.json").read_text())
    table = {row["story"]: row for row in results["comparison"]}
    assert set(table) == {"gmm", "vade", "k-means"}
    held_out = arrays(tmp_path / "data" / "held_out.npz")
    for name in ("gmm", "vade"):
        story = pc.load(tmp_path / name / "story.safetensors")
        predicted = pc.predict(story, held_out["x"])
        assert results["stories"][name]["clusters"] == predicted.tolist()
        assert table[name]["accuracy"] == pytest.approx(pc.metrics.accuracy(held_out["y"], predicted), abs=1e-9)
        assert np.sum(results["stories"][name]["confusion"]["counts"]) == len(predicted)
        draws = arrays(tmp_path / name / "samples.npz")
        assert draws["x"].shape == (100, 64)
        assert np.bincount(draws["cluster"]).tolist() == [10] * 10
        fit = results["stories"][name]["fit"]
        assert fit["bounds"][fit["restart"]] == max(fit["bounds"])
    assert table["k-means"]["log_likelihood"] is None
    found = Checked((tmp_path / "report.html").read_text())
    assert len(found.images) == 2 * (10 + 2)
    assert found.charts == (1 + 1) + (1 + 3)
    printed = capsys.readouterr()
    assert re.search(r"k-means +– +– +0\.\d{3}", printed.out)
    assert "vade, restart 2: bound" in printed.err


def test_the_command_on_the_page_makes_it_again(tmp_path):
    folder = tmp_path / "a folder of 'ours' & more"
    folder.mkdir()
    (folder / "counts of mine.py").write_text(STORY)
    rng = np.random.default_rng(0)
    np.savez(
        folder / "some rows.npz",
        x=rng.poisson([[2.0] * 4, [9.0] * 4] * 20),
        y=[f"a long label <{k}>" for k in "ab"] * 20,
    )
    story, data, run, page = (
        str(folder / name) for name in ("counts of mine.py:Poissons", "some rows.npz", "r", "p.html")
    )
    shape = ["--image-shape", "2x2"]
    commands = [
        ["fit", story, "--data", data, "--out", run, "--clusters", "2", "--epochs", "2", *shape],
        ["report", run, "--out", page, "--story", story, "--particles", "2", *shape],
    ]
    for words in commands:
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 0
    [told] = re.findall(r"<pre><code>(.*?)</code></pre>", (folder / "p.html").read_text(encoding="utf-8"), re.DOTALL)
    program, *words = shlex.split(unescape(told))
    assert program == "probclust"
    assert words[words.index("--data") + 1] == data
    assert words[words.index("--story") + 1] == story
    again = tmp_path / "again.html"
    words[words.index("--out") + 1] = str(again)
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 0
    assert again.read_text(encoding="utf-8") == (folder / "p.html").read_text(encoding="utf-8")
