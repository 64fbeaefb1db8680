"""What the steps of a fit leave for later ones: tensors by name, which checkpoints keep."""

from __future__ import annotations

from typing import overload

from torch import Tensor


class Entry:
    """An entry of `Memory` as an attribute: reading one that no step has left is an error that says so.

    Args:
        name: under which it stands in the mapping.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, memory: None, owner: type) -> Entry: ...

    @overload
    def __get__(self, memory: Memory, owner: type) -> Tensor: ...

    def __get__(self, memory: Memory | None, owner: type) -> Entry | Tensor:
        """The tensor that a step left; of the class, the entry itself."""
        if memory is None:
            return self
        if self.name not in memory:
            raise KeyError(f"no step has left run.memory[{self.name!r}]; it holds {sorted(memory) or 'nothing'}")
        return memory[self.name]

    def __set__(self, memory: Memory, value: Tensor) -> None:
        """Leave a tensor."""
        memory[self.name] = value


class Memory(dict[str, Tensor]):
    """A mapping of tensors by name, those of our own steps as attributes too; a step may leave others.

    Attributes:
        labels: "start", (rows,) clusters that the start found.
        kmeans: "k-means", (rows,) those of k-means that the start was made from.
        neighbours: "neighbours", (rows, n_neighbours) graph of nearest neighbours.
        embedding: "embedding", (rows, n_components) points in which the start's clusters were found.
        filled: "filled", (rows, n_features) rows, their missing entries filled from near rows.
        variance: "variance", () of the rows as pre-training with neighbours sees them, summed over columns.
        features: "Fourier features", (rows, latent_dim) that an encoder learns.
        members: "members", (rows,) rows sorted by their starting cluster.
        sizes: "sizes", (K,) rows of each starting cluster.
        candidates: "candidates", (rows, S) clusters that truncated enumeration computes for each row, best first.
        target: "target", (rows, K) distribution that self-training draws rows to.
        target_labels: "target labels", (rows,) clusters at the last renewal of the target.
    """

    labels = Entry("start")
    kmeans = Entry("k-means")
    neighbours = Entry("neighbours")
    embedding = Entry("embedding")
    filled = Entry("filled")
    variance = Entry("variance")
    features = Entry("Fourier features")
    members = Entry("members")
    sizes = Entry("sizes")
    candidates = Entry("candidates")
    target = Entry("target")
    target_labels = Entry("target labels")

    def forget_labels(self) -> None:
        """Drop what followed from other labels: rows by cluster, and each row's candidates."""
        for entry in (Memory.members, Memory.sizes, Memory.candidates):
            self.pop(entry.name, None)
