"""Fits and scores from several threads give what they give in one, and no error leaves Pyro's handlers behind."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.poutine.runtime import _PYRO_STACK
from sklearn.model_selection import GridSearchCV
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import probclust as pc
from probclust.generate.tempering import Tempered
from probclust.locking import Alone, alone
from probclust.objectives.bounds import Exact
from probclust.progress import Progress

pytestmark = pytest.mark.filterwarnings("ignore::probclust.errors.FitWarning")

X = torch.as_tensor(np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32))


SMALL = {"hidden": (8,), "latent_dim": 2}


def gmm(seed: int = 0) -> pc.Story:
    torch.manual_seed(seed)
    return pc.models.GaussianMixture(4, 3).eval()


def vade(seed: int = 0) -> pc.Story:
    torch.manual_seed(seed)
    return pc.models.VaDE(4, 3, hidden=(8,), latent_dim=2).eval()


def in_threads(functions, n_threads: int = 4) -> list:
    """What each function returns, several at a time; raises the first error."""
    with ThreadPoolExecutor(n_threads) as pool:
        return [future.result() for future in [pool.submit(function) for function in functions]]


SCORES = {
    "predict": lambda story: pc.predict(story, X),
    "elbo": lambda story: pc.elbo(story, X, particles=2, seed=3),
    "log_likelihood": lambda story: pc.log_likelihood(story, X, particles=3, seed=1),
    "log_joint": lambda story: pc.log_joint(story, X, particles=2, seed=5),
    "sample": lambda story: pc.sample(story, 5, seed=7)["x"],
    "embed": lambda story: pc.embed(story, X),
    "objective": lambda story: Exact().differentiable_loss(story.model, story.complete_guide, X).detach(),
}


@pytest.mark.parametrize("build", [gmm, vade])
@pytest.mark.parametrize("name", ["predict", "log_likelihood"])
def test_two_hundred_scores_of_one_story_from_four_threads_are_the_serial_ones(build, name):
    story, state = build(), torch.get_rng_state()
    wanted = SCORES[name](story)
    for found in in_threads([lambda: SCORES[name](story)] * 200):
        assert torch.equal(found, wanted)
    assert torch.equal(torch.get_rng_state(), state)
    assert _PYRO_STACK == []
    assert torch.equal(SCORES[name](story), wanted)


def test_different_scores_of_different_stories_do_not_disturb_each_other():
    stories = [gmm(), vade()]
    jobs = [(name, story) for name in SCORES for story in stories if (name, story) != ("objective", stories[1])] * 4
    wanted = [SCORES[name](story) for name, story in jobs]
    found = in_threads([lambda name=name, story=story: SCORES[name](story) for name, story in jobs])
    for (name, story), one, other in zip(jobs, found, wanted, strict=True):
        assert torch.equal(one, other), (name, type(story).__name__)


def weights(story: pc.Story) -> torch.Tensor:
    return torch.cat([value.flatten().double() for value in story.state_dict().values()])


@pytest.mark.parametrize("engine", ["eager", "staged"])
def test_fits_beside_each_other_and_beside_scores_give_the_weights_of_fits_in_turn(engine):
    """Stories with a warm start, restarts and dropout-free draws, while another thread scores and builds stories."""

    def fitted(number: int) -> torch.Tensor:
        story = stories[number]
        pc.fit(story, X, batch_size=20, seed=number, n_init=2 if number == 1 else 1, engine=engine, **SHORT[number])
        return weights(story)

    SHORT = [
        {"recipe": {"pretrain_epochs": 1, "epochs": 3}},
        {"epochs": 3},
        {"recipe": [pc.SVI(epochs=4, objective="importance")]},
    ]
    makers = [vade, gmm, vade]
    stories = [make(number) for number, make in enumerate(makers)]
    alone_ones = [fitted(number) for number in range(3)]
    stories = [make(number) for number, make in enumerate(makers)]
    other = gmm(9)
    score, state = pc.elbo(other, X, seed=4), torch.get_rng_state()
    over = threading.Event()

    def scores() -> int:
        n = 0
        while not over.is_set():
            assert torch.equal(pc.elbo(other, X, seed=4), score)
            n += 1
        return n

    with ThreadPoolExecutor(1) as pool:
        scored = pool.submit(scores)
        try:
            beside = in_threads([lambda number=number: fitted(number) for number in range(3)])
        finally:
            over.set()
        assert scored.result() > 3
    assert torch.equal(torch.get_rng_state(), state)
    for one, two in zip(alone_ones, beside, strict=True):
        assert torch.equal(one, two)


def test_estimators_built_and_fitted_in_threads_are_those_of_one_thread():
    """A story's first weights are drawn under a seed from torch's one generator."""

    def fitted(seed: int) -> np.ndarray:
        model = pc.DeepMixture(
            "vade", 3, story_arguments=SMALL, recipe={"pretrain_epochs": 1, "epochs": 2}, random_state=seed
        )
        return model.fit(X.numpy()).transform(X.numpy())

    wanted = [fitted(seed) for seed in range(4)]
    for one, other in zip(in_threads([lambda seed=seed: fitted(seed) for seed in range(4)]), wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_search_under_joblibs_threads_finds_what_one_thread_finds():
    search = GridSearchCV(
        pc.DeepMixture("gmm", n_clusters=2, epochs=2, random_state=0),
        {"n_clusters": [1, 2, 3]},
        cv=3,
        error_score="raise",
    )
    wanted = search.fit(X.numpy()).cv_results_["mean_test_score"]
    with joblib.parallel_backend("threading", n_jobs=3):
        found = search.fit(X.numpy()).cv_results_["mean_test_score"]
    np.testing.assert_array_equal(found, wanted)


def test_between_the_epochs_of_a_fit_the_process_is_the_callers_and_other_threads_score():
    """A display that waits for another thread's score does not wait for ever."""
    story, other, seen = gmm(), vade(), []
    state, wanted = torch.get_rng_state(), pc.log_likelihood(other, X, particles=2)
    tiny = torch.tensor(1e-40)

    class Watch(Progress):
        def advance(self, loss=None):
            seen.append(torch.equal(torch.get_rng_state(), state))
            seen.append(torch.get_float32_matmul_precision() == "highest")
            seen.append(bool(tiny * 1 > 0))
            seen.append(torch.equal(pc.log_likelihood(other, X, particles=2), wanted))
            seen.append(torch.equal(pool.submit(pc.log_likelihood, other, X, particles=2).result(60), wanted))

    with ThreadPoolExecutor(1) as pool:
        pc.fit(story, X, recipe=[pc.SVI(epochs=3)], precision="tf32", progress=Watch())
    assert len(seen) == 15
    assert all(seen)


def test_a_step_that_scores_within_an_epoch_does_not_wait_for_itself():
    class Scores(pc.SVI):
        def before(self, run, n_batches):
            pc.predict(run.story, run.x)
            return n_batches >= 4

    weights_of = []
    for step in (Scores, pc.SVI):
        story = gmm()
        pc.fit(story, X, recipe=[step(epochs=2 if step is pc.SVI else 3, schedule="constant")], batch_size=30)
        weights_of.append(weights(story))
    assert torch.equal(*weights_of)


def test_who_waits_is_next():
    """A thread that comes back at once does not keep others out: 1 of 500 turns would do, all 500 would not."""
    turns, asked, came = 0, threading.Event(), []

    def waits() -> None:
        asked.set()
        before = turns
        with alone:
            came.append(turns - before)

    thread = threading.Thread(target=waits)
    for number in range(500):
        with alone:
            turns += 1
            if number == 10:
                thread.start()
                asked.wait()
            time.sleep(0.001)
    thread.join()
    assert came[0] < 100


def test_the_lock_is_the_threads_own_and_is_given_back_after_errors():
    lock, order = Alone(), []

    @lock
    def fails() -> None:
        with lock:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fails()
    with lock:
        thread = threading.Thread(target=lock(lambda: order.append("other")))
        thread.start()
        with lock:
            order.append("inner")
        time.sleep(0.02)
        order.append("outer")
    thread.join(10)
    assert order == ["inner", "outer", "other"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_process_forked_while_another_thread_is_within_can_score():
    held, over = threading.Event(), threading.Event()

    def holds() -> None:
        with alone, Tempered(1.0):
            held.set()
            over.wait(60)

    thread = threading.Thread(target=holds)
    thread.start()
    held.wait()
    child = os.fork()
    if child == 0:  # nothing of pytest's may run here
        signal.alarm(30)
        with alone:
            clean = _PYRO_STACK == []
        os._exit(0 if clean else 1)
    over.set()
    thread.join()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


class Faulty(pc.Story):
    """A mixture whose model does something wrong once it is asked to."""

    def __init__(self, fault=None):
        super().__init__(n_features=4, n_clusters=3)
        self.loc = nn.Parameter(torch.randn(3, 4))
        self.fault = fault

    def model(self, x):
        with pyro.plate("data", x.shape[0]):
            k = pyro.sample("cluster", dist.Categorical(torch.ones(3)))
            if self.fault is not None:
                self.fault()
            pyro.sample("x", dist.Normal(self.loc[k], 1.0).to_event(1), obs=x)

    def guide(self, x):
        pass


def _entered_by_hand():
    poutine.scale(scale=2.0).__enter__()


def _error():
    raise RuntimeError("mine")


def _error_within_a_handler_entered_by_hand():
    _entered_by_hand()
    raise RuntimeError("mine")


def _interrupted():
    raise KeyboardInterrupt


kept = []


def _abandoned_generator():
    def rows():
        with poutine.scale(scale=2.0):
            yield 1

    kept.append(rows())
    next(kept[-1])


FAULTS = [_entered_by_hand, _error, _error_within_a_handler_entered_by_hand, _interrupted, _abandoned_generator]
CALLS = [
    *SCORES.values(),
    lambda story: pc.responsibilities(story, X),
    lambda story: pc.reconstruct(story, X),
    lambda story: pc.fit(story, X, epochs=1),
    lambda story: pc.fit(story, X, epochs=1, engine="staged"),
    lambda story: story.use_global_guide("normal"),
]


@pytest.mark.parametrize("is_checked", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
def test_no_error_leaves_a_handler_on_pyros_stack(fault, is_checked):
    good = gmm()
    wanted = pc.log_likelihood(good, X)
    for call in CALLS:
        story = Faulty()
        if is_checked:
            pc.predict(story, X)  # the contract is checked once
        story.fault = fault
        try:
            call(story)
        except BaseException as error:
            if not isinstance(error, ValueError | RuntimeError | KeyboardInterrupt | IndexError):
                raise
        assert _PYRO_STACK == []
        assert torch.equal(pc.log_likelihood(good, X), wanted)
        kept.clear()
        assert _PYRO_STACK == []


def test_the_callers_own_handlers_stay():
    with poutine.trace() as tracer:
        before = list(_PYRO_STACK)
        story = Faulty(fault=_error)
        with pytest.raises(RuntimeError, match="mine"):
            pc.predict(story, X)
        assert before == _PYRO_STACK
    assert tracer not in _PYRO_STACK


class DrawsWithin(TorchDispatchMode):
    """Fails where an operation draws from torch's own generator outside of the lock."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        draws = torch.Tag.nondeterministic_seeded in function.tags and (kwargs or {}).get("generator") is None
        assert not draws or is_within(), function
        return function(*args, **(kwargs or {}))


def is_within() -> bool:
    return alone.owner == threading.get_ident()


PUBLIC = {
    **SCORES,
    "fit": lambda story: pc.fit(story, X, recipe=[pc.SVI(epochs=2)], batch_size=20),
    "fit by its recipe": lambda story: pc.fit(story, X, recipe={"pretrain_epochs": 1, "epochs": 1}, n_init=2),
    "estimator": lambda story: pc.DeepMixture("gmm", 2, epochs=1, random_state=0).fit(X.numpy()).sample(3),
    "compare": lambda story: pc.compare({"it": story}, X),
    "reconstruct": lambda story: pc.reconstruct(story, X),
    "responsibilities": lambda story: pc.responsibilities(story, X),
    "sample_posterior": lambda story: pc.sample_posterior(story, X, draws=2, seed=0),
    "modes": lambda story: pc.modes(story),
    "interpolate": lambda story: pc.interpolate(story, 0, 1, n=3),
    "impute": lambda story: pc.impute(story, torch.where(X > 1, torch.nan, X)),
    "predictive_check": lambda story: pc.predictive_check(story, X),
    "prototypes": lambda story: pc.prototypes(story, X),
    "to_inference_data": lambda story: pc.to_inference_data(story, X, draws=2),
    "select_n_clusters": lambda story: pc.select_n_clusters(
        lambda k: pc.models.GaussianMixture(4, k), X, [1, 2], cv=2, epochs=1
    ),
    "build": lambda story: pc.models.VaDE(4, 3, hidden=(8,), latent_dim=2, global_guide="normal"),
}


@pytest.mark.parametrize("name", PUBLIC)
def test_what_a_process_has_once_is_touched_within_the_lock_alone(name, monkeypatch):
    """Pyro's handlers and settings, torch's generator and matrix precision and the modes of modules."""

    def watch(owner, what):
        original = getattr(owner, what)

        def watched(*args, **kwargs):
            assert is_within(), what
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, what, watched)

    story = vade()
    for owner, what in (
        (torch, "manual_seed"),
        (torch, "set_rng_state"),
        (torch.random, "set_rng_state"),
        (torch, "set_float32_matmul_precision"),
        (pyro.poutine.messenger.Messenger, "__enter__"),
        (pyro.settings, "set"),
        (nn.Module, "train"),
    ):
        watch(owner, what)
    with DrawsWithin():
        PUBLIC[name](story)


def test_ctrl_c_while_another_thread_is_within_leaves_the_lock_in_order():
    held, over = threading.Event(), threading.Event()

    def holds() -> None:
        with alone:
            held.set()
            over.wait(60)

    def interrupts() -> None:
        time.sleep(0.1)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # parallel workers ignore it
    thread = threading.Thread(target=holds)
    thread.start()
    held.wait()
    threading.Thread(target=interrupts).start()
    try:
        with pytest.raises(KeyboardInterrupt), alone:
            raise AssertionError("the lock was held by the other")
    finally:
        over.set()
        thread.join()
        signal.signal(signal.SIGINT, before)
    assert in_threads([lambda: pc.predict(gmm(), X)] * 4)[0].shape == (60,)


def test_a_story_may_be_scored_while_it_is_fitted():
    """Each score is that of the weights between two epochs."""
    story, over, scores = gmm(), threading.Event(), []

    def score() -> None:
        while not over.is_set():
            scores.append(float(pc.elbo(story, X).mean()))

    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(score) for _ in range(2)]
        try:
            seen = [pc.elbo(story, X).mean().item()]

            class Notes(Progress):
                def advance(self, loss=None):
                    seen.append(pc.elbo(story, X).mean().item())

            pc.fit(story, X, recipe=[pc.SVI(epochs=15)], batch_size=10, progress=Notes())
        finally:
            over.set()
        for job in jobs:
            job.result()
    seen.append(pc.elbo(story, X).mean().item())
    assert len(set(scores)) > 3
    assert set(scores) <= set(seen)
