from __future__ import annotations

import probclust as pc
from probclust.progress import Progress


def test_a_display_of_ones_own_is_told_of_steps_and_epochs():
    told = []

    class Told(Progress):
        def start(self, step, epochs):
            told.append((step, epochs))

        def advance(self, loss):
            told.append(loss)

    data = pc.data.blobs(n_rows=40, n_clusters=2)
    record = pc.fit(pc.models.GaussianMixture(2, 2), data.x, epochs=2, progress=Told())
    assert told == [("em", None), ("svi", 2), *record.losses()]
