"""Averaging the weights of models that share an ancestor.

Fine-tuned weights averaged with those they started from keep most of what was learnt and lose
less of what was known (Wortsman et al. 2022, WiSE-FT, arXiv:2109.01903); checkpoints of one run
averaged are often better than the last (Izmailov et al. 2018, arXiv:1803.05407).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import MANIFEST_NAME, Manifest, replacing, sha256
from modernpubmed.training.train import load_base, save_model


def average(
    models: Sequence[Path], out: Path, *, weights: Sequence[float] | None = None
) -> Manifest:
    """Writes a model folder whose weights are the weighted mean of others'.

    Everything else (tokenizer, lengths, prompts, what its manifest says of its training) is taken
    from the first model.

    Args:
        models: Two or more sentence-transformers folders of one architecture.
        out: The folder to make.
        weights: One for each model; they are divided by their sum. None is equal weights.

    Raises:
        ModernPubMedError: ``out`` exists, a model cannot be loaded, the models differ in the names
            or shapes of their weights, or ``weights`` does not fit.
    """
    if out.exists():
        raise ModernPubMedError("exists already", file=out, remedy="choose another --out")
    if len(models) < 2:
        raise ModernPubMedError("one model has no average", remedy="give two or more")
    given = [1.0] * len(models) if weights is None else list(weights)
    if len(given) != len(models) or not sum(given) > 0 or min(given) < 0:
        raise ModernPubMedError(
            f"weights {given} do not fit {len(models)} models",
            remedy="give one number of 0 or more for each model, not all 0",
        )
    shares = [weight / sum(given) for weight in given]
    first = load_base(str(models[0]))
    total = {
        name: tensor.double() * shares[0] if tensor.is_floating_point() else tensor
        for name, tensor in first.state_dict().items()
    }
    for path, share in zip(models[1:], shares[1:], strict=True):
        other = load_base(str(path)).state_dict()
        if {k: v.shape for k, v in other.items()} != {k: v.shape for k, v in total.items()}:
            raise ModernPubMedError(
                f"its weights differ in name or shape from those of {models[0]}",
                file=path,
                remedy="average models of one architecture",
            )
        for name, tensor in other.items():
            if tensor.is_floating_point():
                total[name] += tensor.double() * share
    first.load_state_dict({name: _as(tensor) for name, tensor in total.items()})
    manifest = _manifest(models, shares)
    with replacing(out) as temporary:
        save_model(first, temporary)
        manifest.write(temporary)
    return manifest


def _as(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _manifest(models: Sequence[Path], shares: Sequence[float]) -> Manifest:
    first = Manifest.read(models[0]) if (models[0] / MANIFEST_NAME).is_file() else None
    averaged = {
        str(path): {"share": share, "weights": sha256(path / "model.safetensors")}
        for path, share in zip(models, shares, strict=True)
    }
    inputs = {} if first is None else dict(first.inputs)
    for path in models[1:]:
        if (path / MANIFEST_NAME).is_file():
            # What the others were made of went into the average as well.
            inputs |= {f"{path.name}/{k}": v for k, v in Manifest.read(path).inputs.items()}
    return Manifest(
        kind="model",
        inputs=inputs,
        settings={**({} if first is None else first.settings), "averaged": averaged},
        counts={} if first is None else first.counts,
        dropped={} if first is None else first.dropped,
        seed=None if first is None else first.seed,
    )
