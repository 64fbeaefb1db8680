from __future__ import annotations

import decimal
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

from probclust.data.checks import as_labels, as_rows, check_varied, enough_rows

TABLE = [[0, 1, 2], [3, 4, 5]]
REAL_DTYPES = ["bool", "u1", "i1", "u2", "u4", "u8", "i8", "f2", "f4", "f8", ">f8", ">i4", "g"]


@given(
    hnp.arrays(
        st.sampled_from([np.dtype(code) for code in REAL_DTYPES]),
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
        elements={"min_value": 0, "max_value": 1},
    ),
    st.sampled_from([torch.float32, torch.float64]),
    st.booleans(),
)
@settings(deadline=None, max_examples=100)
def test_values_survive_any_real_dtype_and_order(array, dtype, strided):
    array = array[::-1, ::-1].T if strided else array
    rows = as_rows(array, dtype=dtype)
    assert rows.dtype == dtype
    assert rows.is_contiguous()
    assert (rows.numpy() == array.astype(rows.numpy().dtype)).all()


@pytest.mark.parametrize(
    "kind",
    [
        list,
        np.array,
        lambda x: np.asfortranarray(x, np.float32),
        torch.tensor,
        lambda x: torch.tensor(x, dtype=torch.bfloat16),
        lambda x: torch.tensor(x, dtype=torch.float32, requires_grad=True),
        lambda x: torch.tensor(x, dtype=torch.float32).to_sparse(),
        pd.DataFrame,
        lambda x: pd.DataFrame(x).astype({0: "Int64", 2: "float32"}),
        sparse.csr_matrix,
        sparse.coo_array,
        np.ma.array,
    ],
)
def test_every_kind_of_table_is_taken(kind):
    rows = as_rows(kind(TABLE))
    assert rows.tolist() == TABLE
    assert rows.dtype == torch.float32
    assert rows.device.type == "cpu"
    assert not rows.requires_grad


def masked(x, mask):
    return np.ma.array(x, mask=mask, dtype=float)


MASKED = {
    "array": lambda: masked([[1, 2], [3, -999]], [[0, 0], [0, 1]]),
    "whole numbers": lambda: np.ma.array([[1, 2], [3, -999]], mask=[[0, 0], [0, 1]]),
    "list of rows": lambda: [masked([1, 2], [0, 0]), masked([3, -999], [0, 1])],
    "tensor": lambda: torch.masked.as_masked_tensor(
        torch.tensor([[1.0, 2.0], [3.0, -999.0]]), torch.tensor([[True, True], [True, False]])
    ),
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of MaskedTensors is in prototype")
@pytest.mark.parametrize("kind", MASKED)
def test_masked_entries_are_missing_ones(kind):
    x = MASKED[kind]()
    with pytest.raises(ValueError, match="x must have no masked values, first in row 1, column 1: impute them"):
        as_rows(x)
    np.testing.assert_array_equal(as_rows(x, missing=True), [[1, 2], [3, np.nan]])


def test_masked_labels_are_refused():
    with pytest.raises(ValueError, match="y must have no masked values, first in row 1:"):
        as_labels(np.ma.array([0, 1], mask=[0, 1]), 2)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ([True, False], [1, 0]),
        (pd.array([True, None], dtype="boolean"), [1, np.nan]),
        (pd.array([3, None], dtype="Int64"), [3, np.nan]),
        (np.array([True, None], dtype=object), [1, np.nan]),
        (np.array([decimal.Decimal("1.5"), None], dtype=object), [1.5, np.nan]),
        (pd.arrays.SparseArray([0.0, 2.0]), [0, 2]),
        (np.array([1, 2], dtype=np.uint8), [1, 2]),
    ],
)
def test_columns_of_a_frame_that_are_numbers(column, expected):
    frame = pd.DataFrame({"a": [0.5, 1.5], "b": column})
    np.testing.assert_array_equal(as_rows(frame, missing=True), np.column_stack([[0.5, 1.5], expected]))
    np.testing.assert_array_equal(as_rows(frame[["b"]], missing=True)[:, 0], expected)


class Endless:
    """An object with a length and entries, which NumPy would ask for one by one."""

    def __len__(self):
        return 600

    def __getitem__(self, index):
        raise AssertionError("asked for an entry")


@pytest.mark.parametrize("x", [Endless(), {"a": [1.0]}, (row for row in TABLE), object()])
def test_what_is_no_table_is_refused_at_once(x):
    with pytest.raises(
        TypeError, match=f"x must be a table of real numbers, got {type(x).__name__}; expected an array"
    ):
        as_rows(x)


def test_no_copy_where_none_is_needed():
    array = np.ones((4, 2), np.float32)
    assert as_rows(array).data_ptr() == array.ctypes.data
    tensor = torch.ones(4, 2)
    assert as_rows(tensor).data_ptr() == tensor.data_ptr()


@pytest.mark.parametrize("mode", ["r", "c"])
def test_memory_mapped_arrays_are_safe_to_write(tmp_path, mode):
    np.save(tmp_path / "x.npy", np.ones((3, 2), np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = as_rows(np.load(tmp_path / "x.npy", mmap_mode=mode))
    rows.zero_()  # neither a crash nor a change of the file
    assert np.load(tmp_path / "x.npy").sum() == 6


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (3.0, r"Expected 2D array .* got x of shape \(\)"),
        ([1.0, 2.0], r"shape \(2,\)\. Reshape your data with x\.reshape\(-1, 1\)"),
        (np.zeros((5, 2, 2)), r"shape \(5, 2, 2\)\. Reshape your data with x\.reshape\(len\(x\), -1\)"),
        (np.zeros((0, 3)), r"x has 0 sample\(s\) \(shape=\(0, 3\)\) while a minimum of 1 is required"),
        (np.zeros((3, 0)), r"0 feature\(s\) \(shape=\(3, 0\)\) while a minimum of 1 is required"),
        ([[1.0], [1.0, 2.0]], "rows of one length"),
        (np.ma.array([[1.0, 2.0]], mask=[[True, False]]), "masked"),
    ],
)
def test_wrong_shapes_are_refused(x, message):
    with pytest.raises(ValueError, match=message):
        as_rows(x)


def test_expected_sizes_are_held():
    with pytest.raises(ValueError, match=r"images .* expected 64 features, got 63"):
        as_rows(np.zeros((2, 63)), n_features=64, name="images")
    with pytest.raises(ValueError, match="a minimum of 3 is required"):
        as_rows(np.zeros((2, 63)), min_rows=3)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 2), complex), "Complex data not supported"),
        (torch.zeros(2, 2, dtype=torch.complex64), "Complex data not supported"),
        (np.zeros((2, 2), object), "dtype object"),
        ([["a", "b"]], "real numbers, got dtype <U1"),
        (np.zeros((2, 2), "datetime64[s]"), "datetime64"),
        (pd.DataFrame({"age": [1, 2], "name": ["a", "b"]}), "in column 'name'"),
        (pd.DataFrame({"when": pd.to_datetime(["2020-01-01"])}), "in column 'when'"),
        (pd.DataFrame({"a": [1, 2, 3], "b": [1, None, "?"]}), r"such as '\?' in row 2, in column 'b'"),
        (pd.DataFrame({"a": [1.0], "b": [1j]}), "dtype complex128 in column 'b'"),
        (pd.DataFrame({"a": pd.Categorical([1, 2])}), "dtype category in column 'a'"),
        ("rows.csv", r"pc\.data\.read\('rows\.csv'\)"),
        (None, "dtype object"),
    ],
)
def test_what_is_no_real_number_is_refused(x, message):
    with pytest.raises(TypeError, match=message):
        as_rows(x)


@given(st.data(), st.sampled_from([np.nan, np.inf, -np.inf]), st.integers(1, 6), st.integers(1, 6))
@settings(deadline=None, max_examples=50)
def test_the_first_value_that_is_not_finite_is_named(data, value, n_rows, n_columns):
    row, column = data.draw(st.integers(0, n_rows - 1)), data.draw(st.integers(0, n_columns - 1))
    x = np.zeros((n_rows, n_columns))
    x[row, column] = x[-1, -1] = value
    word = "NaN" if np.isnan(value) else "infinity"
    with pytest.raises(ValueError, match=rf"Input x contains {word}, first in row {row}, column {column}:"):
        as_rows(x)


def test_a_missing_value_of_a_frame_is_named_by_its_column():
    frame = pd.DataFrame({"age": pd.array([1, None], dtype="Int64"), "size": [1.0, 2.0]})
    with pytest.raises(ValueError, match=r"NaN, first in row 1, column 0 \('age'\)"):
        as_rows(frame)


def test_overflow_is_told_from_infinity():
    with pytest.raises(ValueError, match=r"too large for float32, 1e\+300 first in row 0, column 1"):
        as_rows([[0.0, 1e300]])
    assert as_rows([[0.0, 1e300]], dtype=torch.float64)[0, 1] == 1e300


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor, pd.Series, lambda y: np.array(y, np.float32)])
def test_labels_of_any_number_kind(kind):
    labels = as_labels(kind([0, 2, -1]), n_rows=3, n_clusters=3)
    assert labels.dtype == torch.int64
    assert labels.tolist() == [0, 2, -1]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0, 1], r"shape \(3,\), got shape \(2,\)"),
        ([[0], [1], [2]], r"shape \(3,\), got shape \(3, 1\)"),
        ([0, 1, 3], "from 0 to 2, or -1 where the cluster is unknown, got 3 in row 2"),
        ([0, -2, 1], "got -2 in row 1"),
        ([0, 0.5, 1], "got 0.5 in row 1"),
        ([0, np.nan, 1], "got nan in row 1"),
        ([np.inf, 0, 1], "got inf in row 0"),
    ],
)
def test_wrong_labels_are_refused(y, message):
    with pytest.raises(ValueError, match=message):
        as_labels(y, n_rows=3, n_clusters=3)


def test_labels_of_nullable_types():
    assert as_labels(pd.Series([0, 1, -1], dtype="Int64"), 3).tolist() == [0, 1, -1]
    with pytest.raises(ValueError, match="or -1 where the cluster is unknown, got nan in row 1"):
        as_labels(pd.Series([0, None], dtype="Int64"), 2)
    with pytest.raises(TypeError, match=r"pandas\.factorize\(y\)\[0\] numbers classes of any kind"):
        as_labels(pd.Series(["a", "b"], dtype="string"), 2)


def test_labels_must_be_numbers():
    with pytest.raises(TypeError, match="y must hold real numbers"):
        as_labels(["a", "b"], n_rows=2)


def test_the_mark_of_unknown_labels_can_be_chosen():
    assert as_labels([0, -9], n_rows=2, unknown=-9).tolist() == [0, -9]
    with pytest.raises(ValueError, match="or -9 where"):
        as_labels([0, -1], n_rows=2, unknown=-9)


def test_enough_rows():
    enough_rows(12, 12)
    with pytest.raises(ValueError, match="at most the number of rows, got n_clusters=20 with 12 rows"):
        enough_rows(12, 20)
    with pytest.raises(ValueError, match="at least 1, got n_clusters=0"):
        enough_rows(12, 0)
    with pytest.raises(TypeError):
        enough_rows(12, 2.5)


def test_check_varied():
    check_varied(torch.tensor([[1.0, 2.0], [1.0, 3.0]]))
    with pytest.raises(ValueError, match="n_samples=2 with all rows the same"):
        check_varied(torch.tensor([[1.0, 2.0], [1.0, 2.0]]))
