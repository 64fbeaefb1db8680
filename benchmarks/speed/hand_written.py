"""The loop that one writes by hand for the same network, with the modules of `benchmarks.step_time`."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.speed.gate import Gate
from benchmarks.step_time import HandWrittenMixtureOfVAEs, HandWrittenVaDE


def run(setting: dict[str, Any], x: Any, gate: Gate) -> None:
    rows, arguments = torch.as_tensor(x), setting.get("arguments", {})
    module: Any = HandWrittenMixtureOfVAEs if setting["method"] == "mixture-of-vaes" else HandWrittenVaDE
    network = module(x.shape[1], n_clusters=setting["clusters"], latent_dim=setting["latent"], **arguments)
    adam = torch.optim.Adam(network.parameters(), lr=1e-4, fused=True)
    for _ in gate.range(gate.epochs):
        for index in torch.randperm(len(rows)).split(setting["batch_size"]):
            adam.zero_grad(set_to_none=True)
            network(rows[index]).backward()
            adam.step()
