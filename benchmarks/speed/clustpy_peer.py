"""ClustPy's methods, through `fit`, with its own defaults but for the sizes. Needs ClustPy, not probclust."""

from __future__ import annotations

import sys
from typing import Any

import torch
import tqdm

from benchmarks.speed.gate import Gate


def import_clustpy() -> Any:
    """ClustPy's deep methods, beside whatever torchvision is there.

    ClustPy imports torchvision, whose compiled operators may not fit a CPU build of torch. ClustPy calls none of
    them, so it is enough that their names exist.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(operator + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import_clustpy.library = library  # type: ignore[attr-defined] # must outlive this call
    import clustpy.deep

    return clustpy.deep


class GatedEpochs:
    """Stands in for `tqdm.trange`, of which ClustPy makes its loops over epochs."""

    gate: Gate | None = None

    def __init__(self, *numbers: int, desc: str = "", **_: Any) -> None:
        self.numbers, self.timed = numbers, desc != "AE training" and self.gate is not None

    def __iter__(self) -> Any:
        return iter(self.gate.range(*self.numbers) if self.timed else range(*self.numbers))  # type: ignore[union-attr]

    def set_postfix(self, *_: Any, **__: Any) -> None:
        pass


def run(setting: dict[str, Any], x: Any, gate: Gate) -> None:
    GatedEpochs.gate = gate
    tqdm.trange = GatedEpochs
    methods = import_clustpy()
    method = {"vade": methods.VaDE, "dec": methods.DEC, "idec": methods.IDEC, "dcn": methods.DCN}[setting["method"]]
    model = method(
        n_clusters=setting["clusters"],
        batch_size=setting["batch_size"],
        embedding_size=setting["latent"],
        pretrain_epochs=1,
        clustering_epochs=gate.epochs,
        random_state=0,
    )
    model.fit(x)
