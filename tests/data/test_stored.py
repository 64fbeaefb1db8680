from __future__ import annotations

import os
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

import probclust as pc
from probclust.data import stored
from probclust.data.batches import shuffled
from probclust.data.checks import as_rows
from probclust.data.stored import StoredRows, as_batches, resident
from probclust.data.tables import ArrayTable, ParquetTable
from probclust.progress import Progress
from probclust.story.recipe import SVI, Compute
from probclust.story.registry import story_class

X = np.random.default_rng(0).normal(size=(97, 5)).astype(np.float32).round(2)


@pytest.fixture
def small(monkeypatch):
    """Nothing is small enough to be resident, and blocks and pools are small."""
    monkeypatch.setattr(stored, "RESIDENT_BYTES", 0)
    monkeypatch.setattr(stored, "BLOCK_BYTES", 7 * 20)
    monkeypatch.setattr("probclust.data.batches.POOL_BYTES", 30 * 20)
    monkeypatch.setattr("probclust.data.files.RESIDENT_BYTES", 0)


def as_kind(kind, x, folder):
    """`x` as a table of that kind."""
    path = folder / f"x.{'parquet' if kind == 'parquet' else 'npy'}"
    if kind == "sparse":
        return sparse.coo_matrix(x)
    if kind == "parquet":
        pd.DataFrame(x, columns=[f"c{i}" for i in range(x.shape[1])]).to_parquet(path, row_group_size=20)
        return pc.data.read(path)[0]
    if kind == "in columns":
        x = np.asfortranarray(x)
    np.save(path, x[::-1] if kind == "reversed" else np.repeat(x, 2, 0) if kind == "every second row" else x)
    mapped = np.load(path, mmap_mode="c" if kind == "copy on write" else "r")
    return mapped[::-1] if kind == "reversed" else mapped[::2] if kind == "every second row" else mapped


KINDS = ["mapped", "copy on write", "in columns", "reversed", "every second row", "sparse", "parquet"]


@pytest.mark.parametrize("kind", KINDS)
def test_stored_rows_give_the_batches_that_a_tensor_gives(kind, small, tmp_path):
    rows, whole = as_batches(as_kind(kind, X, tmp_path)), torch.from_numpy(X)
    assert isinstance(rows, StoredRows)
    assert (rows.shape, rows.dtype, len(rows)) == (whole.shape, whole.dtype, len(whole))
    for index in (
        slice(3, 40),
        slice(90, 200),
        slice(5, 5),
        slice(None, None, 9),
        torch.tensor([80, 3, 3, -1]),
        7,
        [2, 1],
    ):
        assert torch.equal(rows[index], whole[index])
    mask = whole[:, 0] > 0
    assert torch.equal(rows[mask], whole[mask])
    assert torch.equal(torch.cat(list(rows.split(31))), whole)
    assert torch.equal(resident(rows), whole)
    assert torch.equal(as_rows(rows), whole)
    assert torch.equal(pickle.loads(pickle.dumps(rows))[torch.tensor([4, 90])], whole[[4, 90]])
    with pytest.raises(IndexError, match=r"0\.\.96"):
        rows[torch.tensor([97])]
    with pytest.raises(AttributeError, match=r"have no 'mean': take a batch"):
        rows.mean()


def test_what_is_small_or_dense_in_memory_is_resident(tmp_path):
    np.save(tmp_path / "x.npy", X)
    for x in (np.load(tmp_path / "x.npy", mmap_mode="r"), sparse.csr_matrix(X), X, torch.from_numpy(X)):
        assert torch.equal(as_batches(x), torch.from_numpy(X))
    text = sparse.random_array((20_000, 2_000), density=1e-4, rng=0, dtype=np.float32)
    assert isinstance(as_batches(text), StoredRows)


def test_a_map_that_was_written_to_keeps_what_was_written(small, tmp_path):
    mapped = as_kind("copy on write", X, tmp_path)
    mapped[3] = 7
    assert (as_batches(mapped)[3] == 7).all()
    assert (mapped[3] == 7).all()


@pytest.mark.parametrize("kind", ["mapped", "sparse", "parquet"])
@pytest.mark.parametrize(("value", "words"), [(np.nan, "NaN"), (np.inf, "infinity"), (1e300, "too large for float32")])
def test_bad_values_are_named_by_row_and_column(kind, value, words, small, tmp_path):
    x = X.astype(np.float64)
    x[60, 2] = value
    rows = as_batches(as_kind(kind, x, tmp_path))
    for read in (lambda: rows[50:70], lambda: rows[torch.tensor([70, 60, 2])], lambda: resident(rows)):
        with pytest.raises(
            ValueError, match=rf"contains (a value )?{words}.* first in row 60, column 2|{words}.*row 60"
        ):
            read()


def test_shape_and_columns_are_checked_at_the_door(small, tmp_path):
    mapped = as_kind("mapped", X, tmp_path)
    with pytest.raises(ValueError, match="expected 4 features, got 5"):
        pc.predict(pc.models.GaussianMixture(4, 2), mapped)
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]})
    frame.to_parquet(tmp_path / "b.parquet")
    with pytest.raises(TypeError, match=r"numbers only, got (large_)?string in column 'b'"):
        pc.data.read(tmp_path / "b.parquet")
    rows, y = pc.data.read(tmp_path / "b.parquet", label="b")
    assert rows.shape == (2, 1)
    assert y.tolist() == ["x", "y"]


INDEXES = {
    "none": lambda frame: frame.reset_index(drop=True),
    "numbers": lambda frame: frame.sample(frac=1, random_state=0),
    "text": lambda frame: frame.set_axis([f"cell {i}" for i in range(len(frame))]),
    "named": lambda frame: frame.rename_axis("c"),
    "two": lambda frame: frame.set_axis(
        pd.MultiIndex.from_arrays([range(len(frame)), ["x"] * len(frame)], names=["i", None])
    ),
}


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize("kind", INDEXES)
def test_an_index_stored_in_parquet_is_no_feature(kind, size, monkeypatch, tmp_path):
    if size == "large":
        monkeypatch.setattr("probclust.data.files.RESIDENT_BYTES", 0)
    frame = INDEXES[kind](pd.DataFrame(X, columns=list("abdef")))
    frame.to_parquet(tmp_path / "x.parquet", row_group_size=20)
    x, _ = pc.data.read(tmp_path / "x.parquet")
    assert isinstance(x, StoredRows) == (size == "large")
    assert list(x.columns) == list("abdef")
    np.testing.assert_array_equal(as_rows(x), frame)
    x, y = pc.data.read(tmp_path / "x.parquet", label="d", drop=["a"])
    assert list(x.columns) == list("bef")
    np.testing.assert_array_equal(y, frame["d"])
    x, _ = pc.data.read(tmp_path / "x.parquet", columns=["f", "a"])
    np.testing.assert_array_equal(as_rows(x), frame[["f", "a"]])
    assert ParquetTable(tmp_path / "x.parquet").columns == list("abdef")


@pytest.mark.parametrize("size", ["small", "large"])
def test_an_index_that_lost_its_name_is_no_feature_either(size, monkeypatch, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    if size == "large":
        monkeypatch.setattr("probclust.data.files.RESIDENT_BYTES", 0)
    frame = pd.DataFrame(X, columns=list("abdef"))
    frame.sample(frac=1, random_state=0).to_parquet(tmp_path / "x.parquet")
    parquet.write_table(parquet.read_table(tmp_path / "x.parquet").replace_schema_metadata(), tmp_path / "y.parquet")
    assert pc.data.read(tmp_path / "y.parquet")[0].shape == (97, 5)
    frame.insert(0, "Unnamed: 0", range(97))
    frame.to_parquet(tmp_path / "x.parquet")
    assert pc.data.read(tmp_path / "x.parquet")[0].shape == (97, 5)
    assert pc.data.read(tmp_path / "x.parquet", index=False)[0].shape == (97, 6)
    frame.rename(columns={"Unnamed: 0": "id"}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(ValueError, match=r"'id' .* counts the rows: give index=True if it is no feature"):
        pc.data.read(tmp_path / "x.parquet")
    assert pc.data.read(tmp_path / "x.parquet", index="id")[0].shape == (97, 5)


@pytest.mark.parametrize("size", ["small", "large"])
def test_nulls_and_truth_in_parquet(size, monkeypatch, tmp_path):
    if size == "large":
        monkeypatch.setattr("probclust.data.files.RESIDENT_BYTES", 0)
        monkeypatch.setattr(stored, "RESIDENT_BYTES", 0)
    frame = pd.DataFrame({"a": X[:, 0], "n": pd.array([1] * 97, "Int64"), "t": pd.array([True] * 97, "boolean")})
    frame.loc[60, "n"], frame.loc[70, "t"] = pd.NA, False
    frame.to_parquet(tmp_path / "x.parquet", row_group_size=20)
    rows, _ = pc.data.read(tmp_path / "x.parquet")
    with pytest.raises(ValueError, match=r"NaN, first in row 60, column 1 \('n'\)"):
        resident(as_batches(rows))
    frame.loc[60, "n"], frame.loc[80, "t"] = 2, pd.NA
    frame.to_parquet(tmp_path / "x.parquet", row_group_size=20)
    rows = resident(as_batches(pc.data.read(tmp_path / "x.parquet")[0], missing=True))
    np.testing.assert_array_equal(rows, frame.to_numpy(np.float32, na_value=np.nan))
    with pytest.raises(ValueError, match=r"NaN, first in row 80, column 2 \('t'\)"):
        resident(as_batches(pc.data.read(tmp_path / "x.parquet")[0]))


def test_columns_of_stored_rows_are_put_in_order(small, tmp_path):
    rows = as_kind("parquet", X, tmp_path)
    story = pc.models.GaussianMixture(5, 2)
    pc.fit(story, rows, epochs=1)
    assert story.feature_names == ("c0", "c1", "c2", "c3", "c4")
    swapped = pd.DataFrame(X[:, ::-1], columns=[f"c{i}" for i in range(4, -1, -1)])
    swapped.to_parquet(tmp_path / "swapped.parquet", row_group_size=30)
    there = pc.data.read(tmp_path / "swapped.parquet")[0]
    assert isinstance(there, StoredRows)
    assert torch.equal(pc.log_joint(story, there), pc.log_joint(story, X))
    with pytest.raises(ValueError, match="without 'c3' and with 'd'"):
        pc.predict(story, swapped.rename(columns={"c3": "d"}))


def test_masked_rows_of_a_table_of_ones_own_are_not_taken_for_values():
    class Masked(ArrayTable):
        def read(self, start, stop):
            rows = np.ma.array(super().read(start, stop), mask=False)
            rows[np.arange(start, stop) == 60] = np.ma.masked
            return rows

    with pytest.raises(ValueError, match="x must have no masked values, first in row 10"):
        StoredRows(Masked(X))[50:70]
    assert StoredRows(Masked(X), missing=True)[50:70].isnan().all(1).nonzero().tolist() == [[10]]


def test_huge_row_groups_are_refused(monkeypatch, tmp_path):
    pd.DataFrame(X, columns=list("abcde")).to_parquet(tmp_path / "x.parquet")
    monkeypatch.setattr("probclust.data.tables.GROUP_BYTES", 2000)
    with pytest.raises(ValueError, match="row_group_size=50 or less"):
        ParquetTable(tmp_path / "x.parquet")


def test_parquet_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"probclust\[parquet\]"):
        ParquetTable(tmp_path / "x.parquet")


def test_what_needs_all_rows_at_once_says_so(monkeypatch):
    monkeypatch.setattr(stored, "WHOLE_BYTES", 100)
    with pytest.raises(ValueError, match=r"all rows of x in memory at once.*random sample"):
        resident(StoredRows(ArrayTable(X)))


@given(n_rows=st.integers(1, 60), n_batches=st.integers(1, 60), block=st.integers(1, 9), pool=st.integers(1, 40))
def test_an_epoch_gives_every_row_once_in_even_batches(n_rows, n_batches, block, pool):
    n_batches = min(n_batches, n_rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored, "BLOCK_BYTES", 4 * block)
        patch.setattr("probclust.data.batches.POOL_BYTES", 4 * pool)
        rows = StoredRows(ArrayTable(np.arange(n_rows, dtype=np.float32)[:, None]))
        epoch = list(shuffled(rows, n_batches))
    assert [len(index) for index, _ in epoch] == [len(p) for p in torch.arange(n_rows).tensor_split(n_batches)]
    assert all(torch.equal(index.float()[:, None], x) for index, x in epoch)
    assert torch.cat([index for index, _ in epoch]).sort().values.tolist() == list(range(n_rows))


def test_stored_rows_are_mixed_and_read_in_sequence(small):
    class Watched(ArrayTable):
        reads: list[tuple[int, int]] = []  # noqa: RUF012

        def read(self, start, stop):
            self.reads.append((start, stop))
            return super().read(start, stop)

    torch.manual_seed(0)
    rows = StoredRows(Watched(np.zeros((2000, 5), np.float32)))
    first, second = (torch.cat([index for index, _ in shuffled(rows, 20)]) for _ in range(2))
    assert not torch.equal(first, second)
    assert sorted(Watched.reads[: len(Watched.reads) // 2]) == [(i, min(i + 7, 2000)) for i in range(0, 2000, 7)]
    assert abs(np.corrcoef(first, np.arange(2000))[0, 1]) < 0.2  # 1 unmixed; blocks are drawn, so about 0.06 at random


def separated(n_rows):
    random = np.random.default_rng(3)
    labels = np.sort(random.integers(3, size=n_rows))  # by cluster: unshuffled batches would all be of one
    return (8 * np.eye(3, 6)[labels] + random.normal(size=(n_rows, 6))).astype(np.float32), labels


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("gmm", "mapped"),
        ("gmm", "sparse"),
        ("gmm", "parquet"),
        ("vade", "mapped"),
        ("dec", "mapped"),
        ("dcn", "mapped"),
    ],
)
def test_stories_fit_stored_rows(name, kind, small, tmp_path, monkeypatch):
    monkeypatch.setattr("probclust.fitting.start_sample.START_ROWS", 400)
    x, labels = separated(600)
    networks = {"hidden": (16,), "latent_dim": 3} if name != "gmm" else {}
    torch.manual_seed(0)
    story = story_class(name)(6, 3, **networks)
    recipe = {"pretrain_epochs": 20, "epochs": 5} if name != "gmm" else None
    y = np.where(np.arange(600) % 10 == 0, labels, -1)
    record = pc.fit(story, as_kind(kind, x, tmp_path), y, recipe=recipe, seed=2)
    assert pc.metrics.accuracy(labels, pc.predict(story, x)) > 0.95
    stored_table = pc.log_joint(story, as_kind(kind, x, tmp_path))
    torch.testing.assert_close(stored_table, pc.log_joint(story, x))
    if "start" in record.memory:
        assert record.memory["start"].shape == (600,)


@pytest.mark.filterwarnings("ignore::probclust.errors.FitWarning")  # one epoch of the experts loses a cluster
def test_a_step_may_start_anew_from_the_clusters_of_all_rows(small, monkeypatch):
    monkeypatch.setattr("probclust.fitting.start_sample.START_ROWS", 100)
    story = pc.models.DAMIC(6, 3, hidden=(8,), latent_dim=2)
    epochs = {"pretrain_epochs": 1, "fit_epochs": 1, "epochs": 1}
    recipe = {"start_hidden": (8,), "start_dim": 2, "rounds": 2, **epochs}
    record = pc.fit(story, sparse.csr_matrix(separated(300)[0]), recipe=recipe)
    assert record.memory["start"].shape == (300,)


def test_the_digest_does_not_depend_on_where_rows_are(small, tmp_path):
    x, _ = separated(300)
    digests = {
        pc.fit(pc.models.GaussianMixture(6, 3), data, epochs=1).settings["data"]
        for data in (x, as_kind("mapped", x, tmp_path), sparse.csr_matrix(x))
    }
    assert len(digests) == 1


def test_a_fit_of_stored_rows_resumes_bit_for_bit(small, tmp_path, monkeypatch):
    monkeypatch.setattr("probclust.fitting.start_sample.START_ROWS", 100)
    monkeypatch.setattr("probclust.fitting.checkpoint.Checkpoint.interval", 0.0)
    x = as_kind("mapped", separated(300)[0], tmp_path)

    class StoppedError(Exception):
        pass

    class Stopping(Progress):
        def __init__(self, after):
            self.left = after

        def advance(self, loss=None):
            self.left -= 1
            if self.left == 0:
                raise StoppedError

    def fit(story, **options):
        torch.manual_seed(0)
        recipe = {"pretrain_epochs": 2, "fit_epochs": 2, "epochs": 2}
        pc.fit(story, x, recipe=recipe, seed=3, n_init=2, **options)
        return torch.cat([p.flatten() for p in story.parameters()])

    def new():
        torch.manual_seed(0)
        return pc.models.VaDE(6, 3, 2, hidden=(8,))

    unbroken = fit(new())
    for after in (1, 5, 9):
        story, path = new(), tmp_path / f"c{after}"
        with pytest.raises(StoppedError):
            fit(story, checkpoint=path, progress=Stopping(after))
        assert torch.equal(fit(new(), checkpoint=path, resume=True), unbroken)


def test_recipes_of_ones_own_see_a_sample_first_and_all_rows_later(small, tmp_path, monkeypatch):
    monkeypatch.setattr("probclust.fitting.start_sample.START_ROWS", 50)
    seen = {}

    def look(name):
        return Compute(name=name, run=lambda run: seen.update({name: (type(run.x), len(run.x), run.x[:3].sum())}))

    steps = [look("before"), SVI(epochs=1), look("after")]
    pc.fit(pc.models.GaussianMixture(6, 3), as_kind("mapped", separated(300)[0], tmp_path), recipe=steps)
    assert seen["before"][:2] == (torch.Tensor, 50)
    assert seen["after"][:2] == (StoredRows, 300)


CHILD = """
import resource, sys
import numpy as np, torch
import probclust as pc
import probclust.data.batches, probclust.story.rows
from probclust.story.recipe import SVI
from probclust.starts.clusters import kmeans_start
torch.set_num_threads(1)
probclust.data.batches.POOL_BYTES = probclust.story.chunks.CHUNK_ELEMENTS = 2**22
story = pc.models.GaussianMixture(256, 3, covariance_type="diag")
pc.fit(story, np.random.default_rng(0).normal(size=(300, 256)), epochs=1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
x = np.load(sys.argv[1], mmap_mode="r")
pc.fit(story, x, recipe=[kmeans_start(n_init=1), SVI(epochs=1)], batch_size=1024)
pc.predict(story, x)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_with_the_file(tmp_path):
    n_rows, n_features = 200_000, 256
    with open(tmp_path / "x.npy", "wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (n_rows, n_features)}
        np.lib.format.write_array_header_1_0(file, header)
        rows = np.random.default_rng(0).normal(size=(1000, n_features)).astype(np.float32)
        for _ in range(n_rows // 1000):
            file.write(rows.data)
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "1048576"}
    command = [sys.executable, "-c", CHILD, str(tmp_path / "x.npy")]
    found = subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout
    assert int(found) * 1024 < 0.45 * 4 * n_rows * n_features
