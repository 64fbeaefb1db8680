from __future__ import annotations

import numpy as np
import pytest
import torch

import probclust as pc
from probclust.generate.image_grid import image_grid
from probclust.story.columns import rows_of
from tests.support.stories import CASE_NAMES, CASES, Mixed, Poissons


@pytest.mark.parametrize("case", CASES, ids=CASE_NAMES)
def test_every_story_fills_a_table_and_a_grid(case):
    story = case.build()
    draws = pc.sample(story, 6, seed=0)
    frame = pc.to_frame(story, draws)
    assert frame.columns.tolist() == ["cluster", *range(story.n_features)]
    assert frame["cluster"].tolist() == draws["cluster"].tolist()
    np.testing.assert_allclose(frame.drop(columns="cluster"), rows_of(story, draws))
    picture = pc.to_images(story, pc.modes(story), (1, story.n_features), columns=2, scale=1)
    assert picture.shape == (2 * 2 - 1, 2 * (story.n_features + 1) - 1, 4)


def test_whole_numbers_are_integers_and_columns_have_names():
    story = Mixed(1, 2, 2)
    frame = pc.to_frame(story, pc.sample(story, 9, seed=0), ["answer", "a", "b"])
    assert frame.dtypes.astype(str).tolist() == ["int64", "int64", "float32", "float32"]
    with pytest.raises(ValueError, match="one for each of n_features=3 columns, got 2"):
        pc.to_frame(story, pc.modes(story), ["a", "b"])


def test_an_imputation_shows_its_means():
    story = Poissons(4, 2)
    found = pc.impute(story, torch.tensor([[1.0, torch.nan, 0.0, 2.0]]), draws=5)
    np.testing.assert_allclose(pc.to_frame(story, found), found.mean)


def test_pictures_are_those_of_the_grid():
    story = pc.models.GaussianMixture(4, 3)
    path = pc.interpolate(story, 0, 1, n=5)
    np.testing.assert_array_equal(pc.to_images(story, path, (2, 2), columns=3, scale=2), image_grid(path, (2, 2), 3, 2))
    assert pc.to_images(story, path, (2, 2)).shape == (2 * 16, (5 * 3 - 1) * 16, 4)
    with pytest.raises(ValueError, match="shape 3x2 has 6 numbers, expected n_features=4"):
        pc.to_images(story, path, (3, 2))


def test_colours_stand_pixel_by_pixel_or_one_after_the_other():
    story = pc.models.GaussianMixture(12, 2)
    images = torch.rand(3, 2, 2, 3)
    picture = pc.to_images(story, images.reshape(3, 12), (2, 2, 3), columns=3, scale=1)
    assert picture.shape == (2, 8, 4)
    for number in range(3):
        cell = picture[:, 3 * number : 3 * number + 2]
        np.testing.assert_array_equal(cell[..., :3], (255 * images[number].double()).round())
        assert (cell[..., 3] == 255).all()
    by_channel = images.permute(0, 3, 1, 2).reshape(3, 12)
    np.testing.assert_array_equal(pc.to_images(story, by_channel, (3, 2, 2), columns=3, scale=1), picture)


def test_names_may_repeat_and_whole_numbers_beyond_integers_stay_as_they_are():
    story = pc.models.GaussianMixture(2, 2)
    frame = pc.to_frame(story, [[1.0, 1e30], [2.0, 3.0]], ["a", "a"])
    assert frame.columns.tolist() == ["a", "a"]
    assert frame.iloc[:, 0].tolist() == [1, 2]
    assert frame.iloc[0, 1] == 1e30
