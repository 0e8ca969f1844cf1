"""Two processes over gloo against one: the same gradient, the same training."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from modernpubmed.training.infonce import Objective, Vectors, info_nce
from modernpubmed.training.runs import read_log

GATHER = """
import sys
import torch
from torch.distributed import destroy_process_group, get_rank, init_process_group
from modernpubmed.training.infonce import Objective, Vectors, info_nce

init_process_group("gloo")
rank = get_rank()
whole = torch.load(sys.argv[1], weights_only=True)
share = slice(4 * rank, 4 * rank + 4)
parts = [part[share].clone().requires_grad_() for part in whole["pairs"]]
hard = whole["hard"][8 * rank : 8 * rank + 8].clone().requires_grad_()
objective = Objective(0.05, symmetric=True, matryoshka=(4,))
outcome = info_nce(
    Vectors(parts[0], parts[1], hard, parts[2]),
    objective,
    related=whole["related"][share],
    related_queries=whole["related_queries"][share],
)
outcome.loss.backward()
torch.save(
    {"loss": outcome.loss.detach(), "grads": [p.grad for p in (*parts, hard)]},
    f"{sys.argv[2]}/{rank}.pt",
)
destroy_process_group()
"""


def launch(processes: int, script: Path, *arguments: object) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, script]
    if processes > 1:
        command = [
            sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", processes,
            "--master-addr", "127.0.0.1", "--master-port", port, script,
        ]  # fmt: skip
    done = subprocess.run(
        [str(part) for part in (*command, *arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_two_processes_give_the_gradient_of_one(tmp_path: Path):
    generator = torch.Generator().manual_seed(4)
    whole = {
        "pairs": list(torch.randn(3, 8, 6, generator=generator, dtype=torch.float64)),
        "hard": torch.randn(16, 6, generator=generator, dtype=torch.float64),
        "related": torch.rand(8, 24, generator=generator) < 0.2,
        "related_queries": torch.rand(8, 16, generator=generator) < 0.2,
    }
    for row in range(8):
        whole["related"][row, row] = whole["related_queries"][row, row] = False
    torch.save(whole, tmp_path / "whole.pt")
    (tmp_path / "gather.py").write_text(GATHER)
    launch(2, tmp_path / "gather.py", tmp_path / "whole.pt", tmp_path)

    parts = [part.requires_grad_() for part in (*whole["pairs"], whole["hard"])]
    expected = info_nce(
        Vectors(parts[0], parts[1], parts[3], parts[2]),
        Objective(0.05, symmetric=True, matryoshka=(4,)),
        related=whole["related"],
        related_queries=whole["related_queries"],
    )
    expected.loss.backward()
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    mean = (found[0]["loss"] + found[1]["loss"]) / 2
    assert mean.item() == pytest.approx(expected.loss.item(), abs=1e-12)
    for number, part in enumerate(parts):
        # Each process has its rows' gradient of the sum of both losses; the trainer halves it.
        gathered = torch.cat([share["grads"][number] for share in found]) / 2
        torch.testing.assert_close(gathered, part.grad, atol=1e-12, rtol=0)


RECIPE = """
name = "two"
license = "apache-2.0"
base = "ours"
max_tokens = 32
[[sources]]
name = "title-abstract"
anchor_tokens = 12
positive_tokens = 24
batch_size = 8
contrast = "queries"
[loss]
temperature = 0.05
symmetric = true
[optimizer]
learning_rate = 1e-3
weight_decay = 0.01
warmup_steps = 2
schedule = "linear"
[run]
steps = 8
seed = 3
precision = "fp32"
checkpoint_every = 4
evaluate_every = 4
dev_pairs = 8
memory_tokens = MEMORY
"""


@pytest.mark.slow
@pytest.mark.parametrize("memory", [100_000, 64], ids=["plain", "cached"])
def test_two_processes_train_the_model_that_one_trains(
    memory: int, pairs: Path, still_model: Path, train_script: Path, tmp_path: Path
):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.replace("MEMORY", str(memory)))
    for processes in (1, 2):
        launch(processes, train_script, recipe, pairs, tmp_path / f"m{processes}", still_model)
    one, two = (load_file(tmp_path / f"m{n}" / "model.safetensors") for n in (1, 2))
    start = load_file(still_model / "model.safetensors")
    assert max(np.abs(values - start[name]).max() for name, values in one.items()) > 1e-3
    for name, values in one.items():
        np.testing.assert_allclose(two[name], values, atol=2e-5, err_msg=name)
    logs = [read_log(tmp_path / f"m{n}.run" / "log.jsonl") for n in (1, 2)]
    assert [r["step"] for r in logs[0]] == [r["step"] for r in logs[1]]
    cached = [[record["cached"] for record in log if "loss" in record] for log in logs]
    assert all(map(any, cached)) if memory == 64 else not any(map(any, cached))
    for first, second in zip(*logs, strict=True):
        if "loss" in first:
            assert second["loss"] == pytest.approx(first["loss"], abs=1e-4)
            assert second["pairs"] == first["pairs"] == 8
