from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import entr
from sklearn.mixture import GaussianMixture

import probclust as pc
from probclust.cli.main import main
from tests.support.archives import arrays

STORY_FILE = """
import pyro, torch
import pyro.distributions as dist
from probclust import Story

class Poissons(Story):
    def __init__(self, n_features, n_clusters, start=0.0):
        super().__init__(n_features=n_features, n_clusters=n_clusters)
        self.log_rate = torch.nn.Parameter(start + torch.randn(n_clusters, n_features))
    def model(self, x):
        with pyro.plate("data", x.shape[0]):
            k = pyro.sample("cluster", dist.Categorical(torch.ones(self.n_clusters)))
            pyro.sample("x", dist.Poisson(self.log_rate[k].exp()).to_event(1), obs=x)
    def guide(self, x):
        pass
"""


@pytest.fixture
def run(capsys):
    """Runs a command in this process: exit status, standard output, standard error."""

    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return stop.value.code, printed.out, printed.err

    return run


@pytest.fixture
def blobs(tmp_path):
    data = pc.data.blobs(n_rows=120, n_features=4, n_clusters=3, seed=1)
    path = tmp_path / "blobs.npz"
    np.savez(path, x=data.x, y=data.y)
    return path


@pytest.fixture
def fitted(run, blobs, tmp_path):
    folder = tmp_path / "gmm"
    code, _, error = run("fit", "gmm", "--data", blobs, "--out", folder, "--clusters", 3, "--image-shape", "2x2")
    assert code == 0, error
    return folder


def test_a_recipe_is_told_the_shape_of_images(run, blobs, tmp_path):
    short = [
        "--set",
        "hidden=[8]",
        "--set",
        "latent_dim=2",
        "--recipe",
        "pretrain_epochs=1",
        "--recipe",
        "fit_epochs=1",
    ]
    for name, more in (("images", ["--image-shape", "2x2"]), ("rows", [])):
        arguments = ["--clusters", 3, "--epochs", 1, *short, *more]
        code, _, error = run("fit", "vade", "--data", blobs, "--out", tmp_path / name, *arguments)
        assert code == 0, error
        settings = json.loads((tmp_path / name / "record.json").read_text())["fit"]["settings"]
        assert settings["recipe"].get("image_shape") == ([2, 2] if more else None)
        assert ("neighbours" in [step["name"] for step in settings["steps"]]) == (not more)


def test_help_is_printed_without_heavy_packages():
    program = (
        "import sys\nfrom probclust.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit as stop: assert stop.code == 0\n"
        "print({'torch', 'pyro', 'numpy', 'pandas', 'sklearn', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert "compare" in done.stdout
    assert done.stdout.endswith("set()\n")


def test_stories_are_listed_with_what_they_are(run):
    code, out, _ = run("stories")
    assert code == 0
    assert {line.split()[0] for line in out.splitlines()} >= {"gmm", "vade", "mixture-of-vaes"}
    assert "A mixture of Gaussians." in out


def test_the_version_is_told(run):
    assert run("--version") == (0, f"probclust {pc.__version__}\n", "")


def test_a_fit_leaves_a_story_and_its_record_and_no_checkpoint(fitted, blobs):
    assert sorted(file.name for file in fitted.iterdir()) == ["record.json", "story.safetensors"]
    record = json.loads((fitted / "record.json").read_text())
    expected = {"source": str(blobs), "label": None, "rows": 120, "features": 4, "image_shape": [2, 2]}
    assert record["data"] == expected
    assert record["fit"]["settings"]["seed"] == 0
    assert pc.load(fitted / "story.safetensors").n_clusters == 3


def test_a_fit_is_the_one_that_python_gives(run, blobs, tmp_path):
    sizes = ("--set", "hidden=[8]", "--set", "latent_dim=2", "--recipe", "epochs=1")
    options = ("--clusters", 3, "--seed", 5, "--restarts", 2, "--batch-size", 64)
    code, out, error = run("fit", "vade", "--data", blobs, "--out", tmp_path / "run", *options, *sizes)
    assert code == 0, error
    assert "nats per row" in out
    saved = pc.load(tmp_path / "run" / "story.safetensors")
    x = arrays(blobs)["x"]
    torch.manual_seed(5)
    story = pc.models.VaDE(4, 3, hidden=[8], latent_dim=2)
    pc.fit(story, x, seed=5, n_init=2, batch_size=64, recipe={"epochs": 1})
    for name, value in story.state_dict().items():
        torch.testing.assert_close(saved.state_dict()[name], value, rtol=0, atol=0)


def test_labels_do_not_enter_a_fit(run, blobs, tmp_path):
    x = arrays(blobs)["x"]
    np.savez(tmp_path / "other.npz", x=x, y=np.arange(120) % 3)
    for data, folder in ((blobs, "a"), (tmp_path / "other.npz", "b")):
        run("fit", "gmm", "--data", data, "--out", tmp_path / folder, "--clusters", 3)
    one, other = (pc.load(tmp_path / folder / "story.safetensors") for folder in "ab")
    assert torch.equal(pc.log_joint(one, x), pc.log_joint(other, x))


def test_evaluate_agrees_with_scikit_learn(run, fitted, blobs, tmp_path):
    code, out, _ = run("evaluate", fitted, "--data", blobs, "--json", tmp_path / "scores.json")
    found = json.loads((tmp_path / "scores.json").read_text())
    assert code == 0
    assert "ACC" in out
    x, y = arrays(blobs)["x"], arrays(blobs)["y"]
    theirs = GaussianMixture(3, random_state=0).fit(x)
    rows = theirs.score_samples(x)
    assert found["log_likelihood"] == pytest.approx(rows.mean(), abs=0.02)
    assert found["se"] == pytest.approx(rows.std(ddof=1) / 120**0.5, rel=0.02)
    assert found["accuracy"] == pytest.approx(pc.metrics.accuracy(y, theirs.predict(x)))
    assert sorted(found["sizes"]) == sorted(np.bincount(theirs.predict(x)).tolist())
    assert found["entropy"] == pytest.approx(entr(theirs.predict_proba(x)).sum(1).mean(), abs=1e-3)


def test_evaluate_needs_no_labels(run, fitted, blobs, tmp_path):
    np.save(tmp_path / "x.npy", arrays(blobs)["x"])
    code, out, _ = run("evaluate", fitted, "--data", tmp_path / "x.npy", "--json", tmp_path / "scores.json")
    assert code == 0
    assert "ACC" not in out
    assert "accuracy" not in json.loads((tmp_path / "scores.json").read_text())


def test_labels_come_from_a_column_that_is_named(run, fitted, blobs, tmp_path):
    x, y = arrays(blobs)["x"], arrays(blobs)["y"]
    lines = ["a,b,c,d,kind", *(",".join([*map(str, row), f"kind {k}"]) for row, k in zip(x, y, strict=True))]
    (tmp_path / "table.csv").write_text("\n".join(lines))
    code, _, error = run(
        "evaluate", fitted, "--data", tmp_path / "table.csv", "--label", "kind", "--json", tmp_path / "s.json"
    )
    assert code == 0, error
    assert json.loads((tmp_path / "s.json").read_text())["accuracy"] > 0.95


def test_samples_of_a_cluster_go_back_to_it(run, fitted, tmp_path):
    code, out, _ = run("sample", fitted, "--cluster", 1, "-n", 50, "--out", tmp_path / "draws.npz", "--seed", 3)
    draws = arrays(tmp_path / "draws.npz")
    assert code == 0
    assert "50 rows of cluster 1" in out
    assert draws["x"].shape == (50, 4)
    assert (draws["cluster"] == 1).all()
    predicted = pc.predict(pc.load(fitted / "story.safetensors"), draws["x"])
    assert (predicted == 1).float().mean() >= 0.95


def test_cold_samples_are_close_to_the_modes(run, fitted, tmp_path):
    code, _, _ = run("sample", fitted, "--modes", "--out", tmp_path / "modes.npz")
    assert code == 0
    story = pc.load(fitted / "story.safetensors")
    modes = arrays(tmp_path / "modes.npz")["x"]
    np.testing.assert_array_equal(modes, pc.modes(story))
    run("sample", fitted, "-n", 30, "--cluster", 2, "--temperature", 1e-8, "--out", tmp_path / "cold.npz")
    np.testing.assert_allclose(arrays(tmp_path / "cold.npz")["x"], np.tile(modes[2], (30, 1)), atol=0.01)


def test_paths_and_tables(run, fitted, tmp_path):
    code, out, _ = run("sample", fitted, "--path", 0, 2, "--out", tmp_path / "path.csv")
    assert code == 0
    assert "9 rows from cluster 0 to 2" in out
    table = np.loadtxt(tmp_path / "path.csv", delimiter=",", skiprows=1)
    expected = pc.interpolate(pc.load(fitted / "story.safetensors"), 0, 2)
    np.testing.assert_allclose(table, expected, rtol=1e-5)
    run("sample", fitted, "-n", 3, "--cluster", 1, "--out", tmp_path / "draws.csv")
    assert (tmp_path / "draws.csv").read_text().splitlines()[0] == "cluster,0,1,2,3"


def test_conditional_stories_are_sampled_where_they_can_be(run, blobs, tmp_path):
    sizes = ["--set", "hidden=[8]", "--set", "latent_dim=2", "--recipe", "pretrain_epochs=1", "--recipe", "epochs=1"]
    damic = ["--set", "gate_hidden=[8]", "--recipe", "start_hidden=[8]", "--recipe", "fit_epochs=2"]
    for story, settings in (("damic", [*sizes, *damic]), ("dec", sizes)):
        folder = tmp_path / story
        code, _, error = run("fit", story, "--data", blobs, "--out", folder, "--clusters", 3, *settings)
        assert code == 0, error
    code, _, error = run("sample", tmp_path / "damic", "--cluster", 1, "-n", 5, "--out", tmp_path / "draws.npz")
    assert code == 0, error
    assert arrays(tmp_path / "draws.npz")["x"].shape == (5, 4)
    code, _, error = run("sample", tmp_path / "dec", "-n", 5, "--out", tmp_path / "none.npz")
    assert code == 2
    assert "DEC conditions on x" in error
    assert not (tmp_path / "none.npz").exists()


def test_samples_say_how_many_were_rejected(run, fitted, tmp_path):
    code, out, _ = run("sample", fitted, "-n", 9, "--out", tmp_path / "draws.npz", "--min-posterior", 0.999)
    assert code == 0
    assert "draws rejected" in out


def test_samples_are_drawn_as_images_of_the_shape_that_the_run_knows(run, fitted, tmp_path):
    matplotlib_image = pytest.importorskip("matplotlib.image")
    code, _, _ = run("sample", fitted, "--cluster", 0, "-n", 12, "--out", tmp_path / "draws.png")
    assert code == 0
    picture = matplotlib_image.imread(tmp_path / "draws.png")
    assert picture[::16, ::16].shape[:2] == (2 * 3 - 1, 10 * 3 - 1)  # 12 images of 2x2 in lines of 10, gaps between


def test_compare_ranks_runs_by_their_bound(run, fitted, blobs, tmp_path):
    run("fit", "gmm", "--data", blobs, "--out", tmp_path / "wrong", "--clusters", 1)
    code, out, _ = run("compare", tmp_path / "wrong", fitted, "--data", blobs, "--json", tmp_path / "table.json")
    assert code == 0
    found = json.loads((tmp_path / "table.json").read_text())["stories"]
    assert [row["run"] for row in found] == ["gmm", "wrong"]
    assert found[0]["difference"] == 0
    assert out.index("gmm") < out.index("wrong")


def test_a_story_in_a_file_goes_through_every_command(run, tmp_path):
    (tmp_path / "mine.py").write_text(STORY_FILE)
    counts = np.random.default_rng(0).poisson([[1, 9, 1], [9, 1, 9]] * 20)
    np.save(tmp_path / "counts.npy", counts)
    story, data, folder = f"{tmp_path}/mine.py:Poissons", tmp_path / "counts.npy", tmp_path / "run"
    code, _, error = run(
        "fit", story, "--data", data, "--out", folder, "--clusters", 2, "--epochs", 3, "--set", "start=1.5"
    )
    assert code == 0, error
    known = ("--story", story)
    assert run("evaluate", folder, "--data", data, *known)[0] == 0
    assert run("compare", folder, "--data", data, *known)[0] == 0
    assert run("sample", folder, "-n", 3, "--out", tmp_path / "draws.npz", *known)[0] == 0


def test_nothing_in_a_run_is_executed(run, tmp_path):
    file, data, folder = tmp_path / "private.py", tmp_path / "counts.npy", tmp_path / "run"
    file.write_text(STORY_FILE)
    np.save(data, np.random.default_rng(0).poisson([[1, 9], [9, 1]] * 20))
    assert run("fit", f"{file}:Poissons", "--data", data, "--out", folder, "--clusters", 2, "--epochs", 1)[0] == 0
    file.write_text("raise SystemExit('executed')")
    code, _, error = run("evaluate", folder, "--data", data)
    assert code == 2
    assert "is not registered" in error
    assert "--story path/to/file.py:Class" in error


WRONG = {
    "unknown command": (["frobnicate"], "No such command"),
    "unknown option": (["stories", "--frob"], "No such option"),
    "missing option": (["fit", "gmm", "--data", "{blobs}"], "--out"),
    "unknown story": (["fit", "gmx", "--data", "{blobs}", "--out", "{new}"], "no story is named 'gmx'"),
    "missing story file": (["fit", "no.py:S", "--data", "{blobs}", "--out", "{new}"], "no file no.py"),
    "missing data": (["fit", "gmm", "--data", "no.csv", "--out", "{new}"], "no such file"),
    "clusters above rows": (["fit", "gmm", "--data", "{blobs}", "--out", "{new}", "--clusters", "121"], "121"),
    "no clusters": (["fit", "gmm", "--data", "{blobs}", "--out", "{new}", "--clusters", "0"], "--clusters"),
    "bad number": (["fit", "gmm", "--data", "{blobs}", "--out", "{new}", "--epochs", "many"], "--epochs"),
    "unknown argument": (["fit", "gmm", "--data", "{blobs}", "--out", "{new}", "--set", "depth=3"], "covariance_type"),
    "bad argument": (
        ["fit", "gmm", "--data", "{blobs}", "--out", "{new}", "--set", "covariance_type=round"],
        "'round'",
    ),
    "argument without a value": (["fit", "gmm", "--data", "{blobs}", "--out", "{new}", "--set", "depth"], "NAME=VALUE"),
    "argument that is no JSON": (
        ["fit", "vade", "--data", "{blobs}", "--out", "{new}", "--set", "hidden=[5,"],
        "must be JSON",
    ),
    "features as argument": (
        ["fit", "gmm", "--data", "{blobs}", "--out", "{new}", "--set", "n_features=9"],
        "number of features is the data's",
    ),
    "unregistered part": (
        ["fit", "vade", "--data", "{blobs}", "--out", "{new}", "--set", 'likelihood={{"class": "os:system"}}'],
        "not registered",
    ),
    "unknown recipe argument": (
        ["fit", "gmm", "--data", "{blobs}", "--out", "{new}", "--recipe", "warmth=9"],
        "no such argument",
    ),
    "unknown engine": (["fit", "gmm", "--data", "{blobs}", "--out", "{new}", "--engine", "fast"], "'fast'"),
    "unknown objective": (["fit", "gmm", "--data", "{blobs}", "--out", "{new}", "--objective", "best"], "'best'"),
    "unknown device": (["fit", "gmm", "--data", "{blobs}", "--out", "{new}", "--device", "abacus"], "'abacus'"),
    "bad image shape": (["fit", "gmm", "--data", "{blobs}", "--out", "{new}", "--image-shape", "3x3"], "9 pixels"),
    "out is a file": (["fit", "gmm", "--data", "{blobs}", "--out", "{blobs}"], "expected a folder"),
    "resume and force": (
        ["fit", "gmm", "--data", "{blobs}", "--out", "{new}", "--resume", "--force"],
        "give one of them",
    ),
    "finished run": (["fit", "gmm", "--data", "{blobs}", "--out", "{run}"], "--force"),
    "no run": (["evaluate", "{new}", "--data", "{blobs}"], "no finished run"),
    "wrong features": (["evaluate", "{run}", "--data", "digits"], "expected 4 features"),
    "the same run twice": (["compare", "{run}", "{run}", "--data", "{blobs}"], "once"),
    "label of a data set": (["evaluate", "{run}", "--data", "digits", "--label", "y"], "--label"),
    "cluster out of range": (["sample", "{run}", "--cluster", "3", "-n", "2", "--out", "{new}.npz"], "0..2"),
    "no rows": (["sample", "{run}", "-n", "0", "--out", "{new}.npz"], "-n"),
    "unknown suffix": (["sample", "{run}", "-n", "2", "--out", "{new}.gif"], ".npz, .csv or .png"),
    "no number of rows": (["sample", "{run}", "--out", "{new}.npz"], "-n is needed"),
    "a temperature of 0": (["sample", "{run}", "-n", "2", "--out", "{new}.npz", "--temperature", "0"], "positive"),
    "modes of a cluster": (
        ["sample", "{run}", "--modes", "--cluster", "1", "--out", "{new}.npz"],
        "leave out --cluster",
    ),
    "path to nowhere": (["sample", "{run}", "--path", "0", "3", "--out", "{new}.npz"], "0..2"),
    "posterior above 1": (
        ["sample", "{run}", "-n", "2", "--out", "{new}.npz", "--min-posterior", "2"],
        "min_posterior",
    ),
    "page with a wrong suffix": (["report", "{run}", "--out", "{new}.pdf"], ".html"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_prints_one_line_and_exits_with_2(case, run, fitted, blobs, tmp_path):
    arguments, expected = WRONG[case]
    values = {"blobs": blobs, "run": fitted, "new": tmp_path / "new"}
    code, out, error = run(*(argument.format(**values) for argument in arguments))
    assert code == 2
    assert out == ""
    assert expected in error
    assert error.startswith("probclust: ")
    assert error.count("\n") == 1


def damage(path, how):
    content = path.read_bytes()
    if how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "flipped":
        path.write_bytes(content[:-4] + bytes(255 - byte for byte in content[-4:]))
    else:
        path.write_bytes(b"no such thing")


@pytest.mark.parametrize("how", ["cut", "flipped", "foreign"])
def test_a_damaged_story_is_refused(how, run, fitted, blobs):
    damage(fitted / "story.safetensors", how)
    code, _, error = run("evaluate", fitted, "--data", blobs)
    assert code == 2
    assert "story.safetensors" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("text", ["{", "[]", '{"data": 3, "fit": 4}'])
def test_a_damaged_record_is_refused(text, run, fitted, tmp_path):
    (fitted / "record.json").write_text(text)
    code, _, error = run("report", fitted, "--out", tmp_path / "page.html")
    assert code == 2
    assert "record.json is damaged" in error


def test_force_replaces_a_run(run, fitted, blobs):
    before = (fitted / "story.safetensors").read_bytes()
    code, _, _ = run("fit", "gmm", "--data", blobs, "--out", fitted, "--clusters", 2, "--force")
    assert code == 0
    assert (fitted / "story.safetensors").read_bytes() != before


def test_a_demo_stopped_by_ctrl_c_says_so(run, monkeypatch, tmp_path):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("probclust.cli.demonstration.run_demo", interrupted)
    code, _, error = run("demo", "--out", tmp_path / "demo")
    assert code == 130
    assert error == "probclust: stopped; the demo starts anew when it is run again\n"


def test_a_bug_keeps_its_traceback(monkeypatch):
    def broken(*_, **__):
        raise KeyError("bug")

    monkeypatch.setattr("probclust.story.installed.installed_stories", broken)
    with pytest.raises(KeyError, match="bug"):
        main(["stories"])


def test_a_fit_stopped_by_ctrl_c_resumes_to_where_the_unbroken_one_ends(run, blobs, tmp_path):
    command = [sys.executable, "-m", "probclust", "fit", "vade", "--data", str(blobs), "--clusters", "3"]
    command += ["--set", "hidden=[8]", "--set", "latent_dim=2", "--recipe", "pretrain_epochs=1", "--epochs", "400"]
    folder = tmp_path / "stopped"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "--out", str(folder)],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    )
    wait_for(folder / "checkpoint.safetensors", process)
    time.sleep(0.1)  # into the training, which takes more than a second
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    [line] = error.splitlines()
    assert line.startswith("probclust: stopped; continue with: probclust fit vade")
    assert line.endswith("--resume")
    assert not (folder / "story.safetensors").exists()

    arguments = command[3:]
    code, _, error = run(*arguments, "--out", folder)
    assert code == 2
    assert "--resume" in error
    assert run(*arguments, "--out", folder, "--resume")[0] == 0
    assert run(*arguments, "--out", tmp_path / "unbroken")[0] == 0
    one, other = (pc.load(tmp_path / name / "story.safetensors").state_dict() for name in ("stopped", "unbroken"))
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def wait_for(path, process, seconds=60):
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, "the fit ended before it was stopped"
        assert time.monotonic() < end
        time.sleep(0.02)


def test_missing_entries_pass_where_the_story_takes_them(run, tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 3))
    x[::5, 1] = np.nan
    data, folder = tmp_path / "x.npy", tmp_path / "run"
    np.save(data, x)
    words = ["fit", "gmm", "--data", data, "--clusters", 2, "--epochs", 1, "--out", folder]
    words += ["--set", "covariance_type=diag"]
    code, _, error = run(*words)
    assert code == 2
    assert "contains NaN, first in row 0, column 1" in error
    assert run(*words, "--set", "missing=true")[0] == 0
    assert run("evaluate", folder, "--data", data)[0] == 0
    assert run("compare", folder, "--data", data)[0] == 0
    assert run("report", folder, "--out", tmp_path / "report.html")[0] == 0


def test_draws_have_the_names_of_the_tables_columns(run, tmp_path):
    data, folder, draws = tmp_path / "t.csv", tmp_path / "run", tmp_path / "draws.csv"
    x = np.random.default_rng(0).normal(size=(40, 2))
    pd.DataFrame({"width": x[:, 0], "kind": 0, "height": x[:, 1]}).to_csv(data, index=False)
    words = ["--data", data, "--label", "kind", "--clusters", 3, "--epochs", 1, "--out", folder]
    assert run("fit", "gmm", *words)[0] == 0
    for options in (["-n", 3], ["--modes"]):
        assert run("sample", folder, *options, "--out", draws)[0] == 0
        assert pd.read_csv(draws).columns.tolist() == ["cluster", "width", "height"]


def test_tables_of_text_and_of_no_rows_are_refused_with_what_to_do(run, tmp_path):
    data = tmp_path / "t.csv"
    data.write_text("a,b,kind\n1,2,oak\n3,4,elm\n")
    code, _, error = run("fit", "gmm", "--data", data, "--out", tmp_path / "run")
    assert code == 2
    assert "column 'kind'" in error
    assert "--label COLUMN names a column of labels" in error
    data.write_text("a,b\n")
    assert "has no rows of numbers" in run("fit", "gmm", "--data", data, "--out", tmp_path / "run")[2]


BROKEN_FILES = {
    "syntax": ("def f(:\n", ":1: SyntaxError"),
    "import": ("import nowhere_at_all\n", ":1: ModuleNotFoundError"),
    "attribute": ("self.log_rate[k]", "self.log_rates[k]", ":13: AttributeError"),
}


@pytest.mark.parametrize("kind", BROKEN_FILES)
def test_an_error_in_a_storys_file_is_told_with_its_line(kind, run, tmp_path):
    *change, said = BROKEN_FILES[kind]
    file, data = tmp_path / "own.py", tmp_path / "counts.npy"
    file.write_text(STORY_FILE.replace(*change) if len(change) == 2 else change[0])
    assert file.read_text() != STORY_FILE
    np.save(data, np.random.default_rng(0).poisson([[1, 9], [9, 1]] * 20))
    code, _, error = run("fit", f"{file}:Poissons", "--data", data, "--out", tmp_path / "run", "--clusters", 2)
    assert code in (1, 2)
    assert error.startswith(f"probclust: {file}:")
    assert said in error
    assert error.count("\n") == 1


def test_a_story_whose_file_was_renamed_is_asked_for_by_its_old_name(run, tmp_path):
    file, other, data, folder = (tmp_path / name for name in ("before.py", "after.py", "counts.npy", "run"))
    file.write_text(STORY_FILE)
    np.save(data, np.random.default_rng(0).poisson([[1, 9], [9, 1]] * 20))
    assert run("fit", f"{file}:Poissons", "--data", data, "--out", folder, "--clusters", 2, "--epochs", 1)[0] == 0
    file.rename(other)
    code, _, error = run("evaluate", folder, "--data", data, "--story", f"{other}:Poissons")
    assert code == 2
    assert "a file named before.py as at the fit" in error


def test_what_is_no_bound_is_not_called_one_and_a_refused_fit_can_be_mended(run, blobs, tmp_path):
    folder = tmp_path / "run"
    words = ["fit", "dec", "--data", blobs, "--out", folder, "--clusters", 3, "--set", "hidden=[8]"]
    words += ["--set", "latent_dim=2", "--recipe", "pretrain_epochs=1", "--recipe", "epochs=1"]
    assert run(*words, "--recipe", "lengths=[3]")[0] == 2
    code, out, _ = run(*words)
    assert code == 0
    assert "safetensors: objective " in out
