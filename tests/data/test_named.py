"""Columns go by their names wherever a table has names, and by their position where it has none."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.preprocessing import StandardScaler

import probclust as pc
from probclust.cli.main import main
from probclust.evaluation.measure import measure_of
from probclust.evaluation.prototype import prototypes

NAMES = ["age", "dose", "mass"]


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(90, 3)) + np.array([[0, 0, 0], [9, 3, 1]])[rng.integers(0, 2, 90)]
    return pd.DataFrame(rows.astype(np.float32), columns=NAMES)


@pytest.fixture(scope="module")
def fitted(frame):
    torch.manual_seed(0)
    story = pc.models.VaDE(3, 2, hidden=(4,), latent_dim=2, missing=True)
    pc.fit(story, frame, recipe={"pretrain_epochs": 1, "fit_epochs": 1, "epochs": 1})
    return story


@pytest.fixture(scope="module")
def mixture(frame):
    story = pc.models.GaussianMixture(3, 2)
    pc.fit(story, frame, epochs=1)
    return story


def swapped(frame):
    return frame[["mass", "age", "dose"]]


FUNCTIONS = {
    "log_joint": pc.log_joint,
    "responsibilities": pc.responsibilities,
    "predict": pc.predict,
    "elbo": pc.elbo,
    "log_likelihood": lambda story, x: pc.log_likelihood(story, x, particles=3),
    "reconstruct": pc.reconstruct,
    "embed": pc.embed,
    "sample_posterior": lambda story, x: pc.sample_posterior(story, x, seed=0)["z"],
    "impute": lambda story, x: pc.impute(story, x, 2, particles=3).mean,
    "compare": lambda story, x: pc.compare({"a": story, "b": story}, x, particles=3),
    "prototypes": lambda story, x: prototypes(story, x, 1),
    "measure": measure_of,
    "to_frame": pc.to_frame,
    "predictive_check": lambda story, x: pc.predictive_check(story, x, permutations=9, seed=0),
    "to_inference_data": lambda story, x: pc.to_inference_data(story, x, draws=2).observed_data["x"].to_pandas(),
    "interpolate": lambda story, x: pc.interpolate(story, x.iloc[0], x.iloc[1]),
    "stability": lambda story, x: pc.stability([story, story], x).labels.tolist(),
}


@pytest.mark.filterwarnings("ignore::probclust.ComparisonWarning")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_puts_columns_in_order_and_refuses_others(name, fitted, frame):
    call = FUNCTIONS[name]
    expected, found = call(fitted, frame), call(fitted, swapped(frame))
    if isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(found, expected)
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected)
    else:
        assert found == expected
    with pytest.raises(ValueError, match="without 'dose' and with 'size', which the fit did not see"):
        call(fitted, frame.rename(columns={"dose": "size"}))
    with pytest.raises(ValueError, match="3 columns of the fit, in any order, got 2 without 'dose'"):
        call(fitted, frame.drop(columns="dose"))
    with pytest.raises(ValueError, match="got 4 with 'extra', which the fit did not see"):
        call(fitted, frame.assign(extra=1.0))


def test_masked_rows_are_no_end_of_a_path(mixture, frame):
    row = np.ma.array([0.0, 0.0, -999.0], mask=[0, 0, 1])
    with pytest.raises(ValueError, match="x must have no masked values, first in row 0, column 2"):
        pc.interpolate(mixture, row, 0)


def test_a_fit_goes_on_with_columns_in_its_order(frame):
    again = {}
    for name, second in (("same", frame), ("swapped", swapped(frame))):
        story = pc.models.GaussianMixture(3, 2)
        pc.fit(story, frame, epochs=1)
        pc.fit(story, second, epochs=1)
        again[name] = story.loc
    assert torch.equal(again["same"], again["swapped"])
    with pytest.raises(ValueError, match="without 'dose'"):
        pc.fit(story, frame.rename(columns={"dose": "size"}))


def test_a_fit_that_was_refused_leaves_no_names(frame):
    story = pc.models.GaussianMixture(3, 2)
    with pytest.raises(ValueError, match="n_init"):
        pc.fit(story, frame, n_init=0)
    assert story.feature_names is None


def test_names_are_saved_and_loaded(mixture, frame, tmp_path):
    pc.save(mixture, tmp_path / "story")
    loaded = pc.load(tmp_path / "story")
    assert loaded.feature_names == ("age", "dose", "mass")
    assert torch.equal(pc.log_joint(loaded, swapped(frame)), pc.log_joint(mixture, frame))
    pc.save(pc.models.GaussianMixture(3, 2), tmp_path / "unnamed")
    assert pc.load(tmp_path / "unnamed").feature_names is None


def test_values_without_names_go_by_position(mixture, frame):
    expected = pc.log_joint(mixture, frame)
    for x in (
        frame.to_numpy(),
        torch.tensor(frame.to_numpy()),
        sparse.csr_array(frame),
        pd.DataFrame(frame.to_numpy()),
    ):
        assert torch.equal(pc.log_joint(mixture, x), expected)


def test_columns_that_are_numbers_are_names_too(frame):
    spectra = frame.set_axis([400, 410, 420], axis="columns")
    story = pc.models.GaussianMixture(3, 2)
    pc.fit(story, spectra, epochs=1)
    assert story.feature_names == ("400", "410", "420")
    assert torch.equal(pc.log_joint(story, spectra[[420, 400, 410]]), pc.log_joint(story, spectra))
    story = pc.models.GaussianMixture(3, 2)
    pc.fit(story, pd.DataFrame(frame.to_numpy()), epochs=1)
    unnamed = pd.DataFrame(frame.to_numpy())
    assert story.feature_names is None
    assert torch.equal(pc.log_joint(story, unnamed[[2, 0, 1]]), pc.log_joint(story, unnamed))
    story = pc.models.GaussianMixture(3, 2)
    pc.fit(story, unnamed[[2, 0, 1]], epochs=1)
    assert torch.equal(pc.log_joint(story, unnamed), pc.log_joint(story, unnamed[[2, 0, 1]]))


def test_doubled_names_have_no_order(frame):
    doubled = frame.set_axis(["a", "b", "a"], axis="columns")
    story = pc.models.GaussianMixture(3, 2)
    pc.fit(story, doubled, epochs=1)
    pc.predict(story, doubled)
    with pytest.raises(ValueError, match="several columns of the name 'a', so that their order is unknown"):
        pc.predict(story, doubled.iloc[:, [0, 2, 1]])


def test_a_scaler_gets_its_own_columns(frame):
    scaler = StandardScaler().fit(frame)
    story = pc.models.GaussianMixture(3, 2)
    pc.fit(story, scaler.transform(frame), epochs=1)
    expected = pc.compare({"a": (scaler, story)}, frame)
    pd.testing.assert_frame_equal(pc.compare({"a": (scaler, story)}, swapped(frame)), expected)


def test_the_estimator_puts_columns_in_order(frame):
    estimator = pc.DeepMixture("gmm", n_clusters=2, epochs=1, random_state=0).fit(frame)
    assert estimator.story_.feature_names == ("age", "dose", "mass")
    for call in (estimator.predict_proba, estimator.score_samples, estimator.transform):
        assert (call(swapped(frame)) == call(frame)).all()
    with pytest.raises(ValueError, match="without 'dose'"):
        estimator.predict(frame.drop(columns="dose"))
    mixed = frame.set_axis(["age", 1, 2.5], axis="columns")
    estimator = pc.DeepMixture("gmm", n_clusters=2, epochs=1, random_state=0).fit(mixed)
    assert estimator.feature_names_in_.tolist() == ["age", "1", "2.5"]
    assert (estimator.predict(mixed[[2.5, "age", 1]]) == estimator.predict(mixed)).all()


def test_the_command_line_goes_by_names(mixture, frame, tmp_path, capsys):
    def run(*words):
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in words])
        said = capsys.readouterr()
        return stop.value.code, said.out + said.err

    files = {"same": frame, "swapped": swapped(frame), "renamed": frame.rename(columns={"dose": "size"})}
    for name, table in files.items():
        table.to_csv(tmp_path / f"{name}.csv", index=False)
        table.to_parquet(tmp_path / f"{name}.parquet")
    run("fit", "gmm", "--data", tmp_path / "same.csv", "--clusters", 2, "--epochs", 1, "--out", tmp_path / "run")
    assert pc.load(tmp_path / "run" / "story.safetensors").feature_names == ("age", "dose", "mass")
    for command in ("evaluate", "compare"):
        for kind in ("csv", "parquet"):
            said = [run(command, tmp_path / "run", "--data", tmp_path / f"{name}.{kind}") for name in files]
            assert said[0] == said[1]
            assert said[2][0] == 2
            assert "without 'dose' and with 'size'" in said[2][1]


class Annotated:
    """As much of AnnData's interface as is asked for; a real one iterates for ever under `numpy.asarray`."""

    isbacked = False

    def __init__(self, x, genes):
        self.X, self.var_names, self.obs_names = x, pd.Index(genes), pd.RangeIndex(x.shape[0])

    @property
    def shape(self):
        return self.X.shape


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix, sparse.csc_array])
def test_annotated_matrices_give_their_rows_and_genes(kind, mixture, frame):
    there = Annotated(kind(swapped(frame).to_numpy()), ["mass", "age", "dose"])
    assert torch.equal(pc.log_joint(mixture, there), pc.log_joint(mixture, frame))
    one, other = (pc.DeepMixture("gmm", n_clusters=2, epochs=1, random_state=0).fit(x) for x in (there, swapped(frame)))
    assert (one.predict_proba(frame) == other.predict_proba(there)).all()


def test_real_annotated_matrices(mixture, frame, tmp_path):
    from probclust.data.named import opened

    anndata = pytest.importorskip("anndata", reason="anndata is not installed")
    cells, genes = (
        pd.DataFrame(index=pd.Index(n, dtype=object)) for n in (map(str, frame.index), ["mass", "age", "dose"])
    )
    there = anndata.AnnData(sparse.csr_matrix(swapped(frame)), cells, genes)
    there.write_h5ad(tmp_path / "cells.h5ad")
    backed = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    expected = pc.log_joint(mixture, frame)
    for x in (there, backed, there[:, NAMES]):
        assert torch.equal(pc.log_joint(mixture, x), expected)
    with pytest.raises(ValueError, match="without X"):
        opened(anndata.AnnData(obs=pd.DataFrame(index=["a", "b"])))


class Dask:
    """A frame of a library whose frames do not turn into pandas' by themselves."""

    def __init__(self, frame):
        self.frame, self.columns, self.shape = frame, frame.columns, frame.shape

    def __array__(self, dtype=None, copy=None):
        return self.frame.to_numpy(dtype)


class Polars:
    """A table of another library that turns into a frame."""

    def __init__(self, frame):
        self.frame = frame

    def to_pandas(self):
        return self.frame


def test_tables_of_other_libraries_keep_their_names(mixture, frame):
    from probclust.data.named import opened

    xarray = pytest.importorskip("xarray")
    pyarrow = pytest.importorskip("pyarrow")
    table = swapped(frame)
    array = xarray.DataArray(table.to_numpy(), dims=("row", "feature"), coords={"feature": list(table.columns)})
    records = table.to_records(index=False)
    for x in (Polars(table), Dask(table), array, pyarrow.Table.from_pandas(table), records, np.array(records)):
        assert torch.equal(pc.log_joint(mixture, x), pc.log_joint(mixture, frame))
    assert opened(xarray.DataArray(table.to_numpy())).names is None


def test_arranging_by_hand():
    from probclust.data.named import arranged

    table = arranged(pd.DataFrame({"b": [1], "a": [2]}), ["a", "b"])
    assert table.names == ("a", "b")
    assert table.values.to_numpy().tolist() == [[2, 1]]
    numbered = arranged(pd.DataFrame({1: [1], 0: [2]}), None)
    assert numbered.names is None
    assert numbered.values.to_numpy().tolist() == [[2, 1]]
