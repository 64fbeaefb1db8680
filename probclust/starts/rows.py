"""The start without pre-training: clusters of the rows themselves."""

from __future__ import annotations

from probclust.starts.start import Clusters, Coder, Start, start_kind
from probclust.story.recipe import Step
from probclust.story.story import Story


@start_kind("none", is_kmeans=True)
def unchanged_rows(start: Start, story: Story, coder: Coder, clusters: Clusters) -> list[Step]:
    """The one step that clusters the rows as the story's likelihood shows them."""
    return [clusters(coder.view)]
