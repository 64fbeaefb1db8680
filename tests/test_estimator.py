from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone, is_clusterer
from sklearn.datasets import make_blobs
from sklearn.exceptions import NotFittedError
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import probclust as pc
from tests.support.stories import Mixed, Poissons

X, Y = make_blobs(120, n_features=3, centers=3, random_state=0)
RECIPE = [pc.SVI(epochs=3, learning_rate=1e-3)]
SMALL = {"latent_dim": 2, "hidden": (8,)}


def gmm(**arguments):
    return pc.DeepMixture("gmm", **{"n_clusters": 3, "epochs": 2, "random_state": 0} | arguments)


def vade(**arguments):
    settings = {"n_clusters": 3, "story_arguments": SMALL, "recipe": RECIPE, "random_state": 0, "particles": 3}
    return pc.DeepMixture("vade", **settings | arguments)


@pytest.mark.filterwarnings("ignore::probclust.FitWarning")  # the checks fit rows that are no clusters
@parametrize_with_checks([pc.DeepMixture("gmm", n_clusters=2, epochs=2)])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_scores_are_those_of_scikit_learns_mixture():
    ours, theirs = gmm().fit(X), GaussianMixture(3, random_state=0).fit(X)
    ours.story_.set_parameters(theirs)
    np.testing.assert_allclose(ours.score_samples(X), theirs.score_samples(X), rtol=1e-9)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-9)
    assert ours.score(X) == pytest.approx(theirs.score(X), rel=1e-9)


@pytest.mark.parametrize("build", [gmm, vade])
def test_the_face_agrees_with_the_functions(build):
    estimator = build().fit(X)
    story = estimator.story_
    assert estimator.predict(X).tolist() == pc.predict(story, X).tolist() == estimator.labels_.tolist()
    np.testing.assert_array_equal(estimator.predict_proba(X), pc.responsibilities(story, X).numpy())
    np.testing.assert_array_equal(estimator.transform(X), pc.embed(story, X).numpy())
    bound = pc.log_likelihood(story, X, particles=estimator.particles)
    np.testing.assert_array_equal(estimator.score_samples(X), bound.double().numpy())
    assert estimator.score(X) == pytest.approx(float(bound.double().mean()))
    assert build().fit_predict(X).tolist() == estimator.labels_.tolist()
    assert estimator.record_.bound == estimator.record_.bounds[0]
    assert estimator.n_iter_ == len(estimator.record_.history)
    assert is_clusterer(estimator)


def test_it_finds_the_blobs():
    assert pc.metrics.accuracy(Y, gmm().fit_predict(X)) > 0.95


def test_fitting_again_starts_anew_and_leaves_the_callers_random_state_alone():
    before = torch.get_rng_state()
    estimator = vade().fit(X)
    first = estimator.story_.state_dict()
    second = estimator.fit(X).story_.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(vade(random_state=1).fit(X).story_.prior.loc, first["prior.loc"])


def test_parts_that_are_passed_in_are_not_trained():
    likelihood = pc.likelihoods.Gaussian(3)
    before = {name: value.clone() for name, value in likelihood.state_dict().items()}
    estimator = vade(story_arguments=SMALL | {"likelihood": likelihood}).fit(X)
    assert all(torch.equal(value, before[name]) for name, value in likelihood.state_dict().items())
    assert estimator.story_.codec.likelihood is not likelihood


def test_sample_gives_rows_and_clusters():
    estimator = gmm().fit(X)
    rows, clusters = estimator.sample(200)
    assert rows.shape == (200, 3)
    assert clusters.shape == (200,)
    assert (estimator.predict(rows) == clusters).mean() > 0.95
    assert set(estimator.sample(5, cluster=1)[1]) == {1}
    np.testing.assert_array_equal(rows, estimator.sample(200)[0])


def test_sample_puts_every_site_into_its_columns():
    x = np.concatenate(
        [np.random.default_rng(0).integers(0, 2, (40, 2)), np.random.default_rng(1).normal(size=(40, 2))], 1
    )
    build = type(
        "TwoAndTwo", (Mixed,), {"__init__": lambda self, n_features, n_clusters: Mixed.__init__(self, 2, 2, n_clusters)}
    )
    rows, _ = pc.DeepMixture(build, 2, recipe=RECIPE, random_state=0).fit(x).sample(50)
    assert np.isin(rows[:, :2], (0, 1)).all()
    assert not np.isin(rows[:, 2:], (0, 1)).any()


def test_y_is_ignored_unless_it_is_asked_for():
    np.testing.assert_array_equal(gmm().fit(X, Y[::-1]).predict_proba(X), gmm().fit(X).predict_proba(X))
    assert not hasattr(gmm().fit(X, Y), "classes_")


@pytest.mark.parametrize(
    "names", [np.array(["c", "a", "b"]), np.array([30, 10, 20]), np.array(["c", "a", "b"], object)]
)
def test_semi_supervised_clusters_take_the_order_of_the_classes(names):
    y = names[Y]
    known = y.astype(object)
    known[20:] = -1
    estimator = gmm(semi_supervised=True).fit(X, known)
    assert estimator.classes_.tolist() == sorted(names.tolist())
    assert (estimator.classes_[estimator.predict(X)] == y).mean() > 0.95


@pytest.mark.parametrize("unknown", [-1, None, float("nan")])
def test_unknown_classes_can_be_written_in_several_ways(unknown):
    y = pd.Series(["a", "b", *[unknown] * 118], dtype=object)
    assert gmm(semi_supervised=True).fit(X, y).classes_.tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (pd.Series(["a", "b", pd.NA] * 40, dtype="string"), ["a", "b"]),
        (["b", "a", float("nan")] * 40, ["a", "b"]),
        (pd.Categorical(["b", "a", None] * 40), ["a", "b"]),
        (pd.Series([7, 3, pd.NA] * 40, dtype="Int64"), [3, 7]),
        (np.ma.array([7, 3, 0] * 40, mask=[0, 0, 1] * 40), [3, 7]),
        ([30, 10, None] * 40, [10, 30]),
        (torch.tensor([7, 3, -1] * 40), [3, 7]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_classes_of_any_type_may_have_gaps_and_be_missing(y, classes):
    story = gmm(semi_supervised=True)
    known = story._known(y, 120)
    assert story.classes_.tolist() == classes
    assert type(story.classes_.tolist()[0]) is type(classes[0])
    first = classes.index(next(iter(y)))
    assert known.tolist() == [first, 1 - first, -1] * 40


def test_bad_columns_and_cells_of_a_frame_are_named():
    frame = pd.DataFrame(X).add_prefix("c")
    for column, said in (("x", "such as 'x' in row 0"), (pd.Timestamp("2020-01-01"), "got dtype datetime64")):
        with pytest.raises(TypeError, match=rf"X must hold numbers only, .*{said}.* in column 'c1'"):
            gmm().fit(frame.assign(c1=column))
    frame.loc[7, "c1"] = np.nan
    with pytest.raises(ValueError, match=r"X contains NaN, first in row 7, column 1 \('c1'\): impute such values"):
        gmm().fit(frame)


def test_tensors_are_taken_and_masks_are_not_lost():
    expected = gmm().fit(X).labels_
    assert (gmm().fit(torch.tensor(X).requires_grad_()).labels_ == expected).all()
    masked = np.ma.array(X.copy(), mask=False)
    masked.data[:5], masked.mask[:5] = -999, True
    with pytest.raises(ValueError, match="X must have no masked values, first in row 0, column 0"):
        gmm().fit(masked)
    gaps = X.copy()
    gaps[:5, 0], masked.mask[:5, 1:], masked.data[:5, 1:] = np.nan, False, X[:5, 1:]
    arguments = {"missing": True, "covariance_type": "diag"}
    one, other = (gmm(story_arguments=arguments).fit(x) for x in (masked, gaps))
    np.testing.assert_array_equal(one.predict_proba(masked), other.predict_proba(gaps))


@pytest.mark.parametrize("view", [lambda x: x[::-1], lambda x: np.asfortranarray(x)[:, ::-1], lambda x: x[::2, ::-1]])
def test_rows_and_columns_may_run_backwards(view):
    turned = view(X)
    np.testing.assert_array_equal(
        gmm().fit(turned).score_samples(turned), gmm().fit(turned.copy()).score_samples(turned.copy())
    )


def test_columns_with_numbers_for_names_are_put_in_order_without_a_word():
    table, turned = pd.DataFrame(X), pd.DataFrame(X)[[2, 0, 1]]
    estimator = gmm().fit(table)
    np.testing.assert_array_equal(estimator.predict_proba(turned), estimator.predict_proba(table))
    np.testing.assert_array_equal(gmm().fit(turned).predict_proba(table), estimator.predict_proba(X))


def test_semi_supervised_refuses_a_wrong_y():
    with pytest.raises(ValueError, match="requires y to be passed"):
        gmm(semi_supervised=True).fit(X)
    with pytest.raises(ValueError, match=r"one entry for each row, shape \(120,\), got shape \(3,\)"):
        gmm(semi_supervised=True).fit(X, [0, 1, 2])
    with pytest.raises(ValueError, match="at most n_clusters=3 classes, got 120"):
        gmm(semi_supervised=True).fit(X, np.arange(120))
    with pytest.raises(ValueError, match="Unknown label type"):
        gmm(semi_supervised=True).fit(X, X[:, 0])


def test_it_works_in_pipelines_and_searches():
    pipeline = make_pipeline(StandardScaler(), gmm())
    assert pipeline.fit(X, Y).predict(X).shape == (120,)
    search = GridSearchCV(pipeline, {"deepmixture__n_clusters": [1, 3]}, cv=3).fit(X, Y)
    assert search.best_params_ == {"deepmixture__n_clusters": 3}
    assert cross_val_score(gmm(), X, cv=3).shape == (3,)


@pytest.mark.parametrize("build", [gmm, vade])
def test_it_can_be_cloned_and_pickled(build):
    estimator = build().fit(X)
    again = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(again.score_samples(X), estimator.score_samples(X))
    assert not hasattr(clone(estimator), "story_")
    assert clone(estimator).get_params() == estimator.get_params()


def test_the_fitted_story_can_be_saved(tmp_path):
    estimator = gmm().fit(X)
    pc.save(estimator.story_, tmp_path / "story")
    story = pc.load(tmp_path / "story")
    np.testing.assert_array_equal(pc.responsibilities(story, X).numpy(), estimator.predict_proba(X))


def test_names_of_features_come_in_and_go_out():
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    estimator = vade().set_output(transform="pandas").fit(frame)
    assert estimator.feature_names_in_.tolist() == ["a", "b", "c"]
    assert estimator.get_feature_names_out().tolist() == ["deepmixture0", "deepmixture1"]
    assert estimator.transform(frame).columns.tolist() == ["deepmixture0", "deepmixture1"]


def test_a_story_is_a_name_a_class_or_a_class_in_a_file(tmp_path):
    counts = np.random.default_rng(0).poisson(3.0, (40, 2))
    assert isinstance(pc.DeepMixture(Poissons, 2, recipe=RECIPE, random_state=0).fit(counts).story_, Poissons)
    file = tmp_path / "mine.py"
    file.write_text("from probclust.models import GaussianMixture\nclass Mine(GaussianMixture):\n    pass\n")
    estimator = pc.DeepMixture(f"{file}:Mine", 2, epochs=1, random_state=0).fit(X)
    assert type(estimator.story_).__name__ == "Mine"


def test_arguments_and_recipe_reach_the_story():
    estimator = gmm(story_arguments={"covariance_type": "diag"}, recipe=RECIPE, epochs=4, n_init=2).fit(X)
    assert estimator.story_.arguments["covariance_type"] == "diag"
    assert estimator.n_iter_ == 4
    assert len(estimator.record_.bounds) == 2


class Scores(pc.models.GaussianMixture):
    is_density = False


def test_what_is_no_density_has_no_score():
    estimator = pc.DeepMixture(Scores, 3, epochs=1, random_state=0).fit(X)
    with pytest.raises(ValueError, match="Scores is no density of x"):
        estimator.score(X)
    assert estimator.predict(X).shape == (120,)


class Float32Constants(Poissons):
    """Holds a constant that no `.double()` reaches."""

    def model(self, x):
        return super().model(x @ torch.eye(x.shape[1], dtype=torch.float32))


def test_exact_stories_are_kept_in_the_precision_of_the_rows():
    assert gmm().fit(X).story_.dtype == torch.float64
    assert gmm().fit(X.astype(np.float32)).story_.dtype == torch.float32
    assert vade().fit(X).story_.dtype == torch.float32
    counts = np.random.default_rng(0).poisson(3.0, (40, 2)).astype(float)
    assert pc.DeepMixture(Float32Constants, 2, recipe=RECIPE, random_state=0).fit(counts).story_.dtype == torch.float32


def test_bad_input_is_refused_with_a_reason():
    with pytest.raises(ValueError, match="n_clusters=10 with 3 rows"):
        pc.DeepMixture("gmm").fit(X[:3])
    with pytest.raises(ValueError, match="n_clusters must be an integer of at least 1, got 0"):
        gmm(n_clusters=0).fit(X)
    with pytest.raises(ValueError, match="no story is named 'nothing'"):
        pc.DeepMixture("nothing").fit(X)
    with pytest.raises(TypeError, match="expected a Story class"):
        pc.DeepMixture(Poissons(2, 2)).fit(X)
    with pytest.raises(ValueError, match="3 features as input"):
        gmm().fit(X).predict(X[:, :2])
    with pytest.raises(NotFittedError):
        gmm().sample(3)


def test_the_name_is_lazy():
    code = (
        "import sys, probclust as pc; assert 'DeepMixture' in dir(pc) and not {'torch', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
