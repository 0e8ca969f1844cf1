"""Training a nano student: batches, loss, steps, checkpoints."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.nn import functional

from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import Manifest
from modernpubmed.training.assemble import chunked
from modernpubmed.training.nano_lesson import Lesson, NanoSettings, Precision
from modernpubmed.training.permutation import permuted
from modernpubmed.training.runs import (
    CHECKPOINTS,
    LOG,
    PARTIAL,
    cut_log,
    keep_last,
    step_of,
    stopping_on_interrupt,
)
from modernpubmed.training.students import Report, agreement
from modernpubmed.training.train import TrainingStoppedError, attend_plainly, save_model

_MOMENTS = "optimizer.safetensors"
# Most padded tokens a chunk: on a CPU what its caches hold, on a GPU what keeps it busy.
_CHUNK_TOKENS = {"cpu": 2_048, "cuda": 65_536}
# Checkpoints that are kept, and steps between two lines of the log.
_KEPT, _LOG_EVERY = 2, 10
_LONGEST_GRADIENT = 1.0


def train_student(
    model: SentenceTransformer,
    lesson: Lesson,
    settings: NanoSettings,
    run: Path,
    checkpoint: Path | None,
    manifest: Callable[[int], Manifest],
    report: Report,
) -> None:
    """Trains the model in place.

    Args:
        model: The student, as it is at the checkpoint, or at step 0.
        lesson: What there is to learn.
        settings: How.
        run: Where the log and the checkpoints are.
        checkpoint: Where to go on from.
        manifest: Of the model at a step.
        report: Called every few steps.

    Raises:
        ModernPubMedError: A gradient is not finite.
        TrainingStoppedError: Ctrl-C or SIGTERM; the run is saved.
    """
    # Twice as fast as the fused kernels, forwards and backwards, in fp32 too at this size.
    if model.device.type == "cpu":
        attend_plainly(model)
    student = model[0].auto_model
    optimizer = _optimizer(student, settings)
    start = 0
    if checkpoint is not None:
        start = step_of(checkpoint)
        _restore(optimizer, student, checkpoint, start)
    if not (run / LOG).exists():
        (run / LOG).touch()
    cut_log(run / LOG, start)
    batches = _batches(lesson.lengths[lesson.held_out :], settings)
    clock, seen, since = time.monotonic(), 0, _Mean()
    with stopping_on_interrupt() as asked:
        for step in range(start, settings.steps):
            rows = batches(step) + lesson.held_out
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * _pace(step, settings)
            loss, cosine = _loss(model, lesson, rows, settings)
            loss.backward()  # type: ignore[no-untyped-call]
            length = nn.utils.clip_grad_norm_(student.parameters(), _LONGEST_GRADIENT)
            if not torch.isfinite(length):
                raise ModernPubMedError(
                    f"the gradient of step {step + 1} is not finite; the last checkpoint is kept",
                    file=run,
                    remedy="lower the learning rate, in a new --out",
                )
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            seen += int(lesson.lengths[rows].sum())
            since.add(loss=loss.item(), cosine=cosine.item(), gradient=float(length))
            done = step + 1
            seconds = time.monotonic() - clock
            if done % _LOG_EVERY == 0 or done == settings.steps:
                record = {
                    "step": done,
                    **since.taken(),
                    "learning_rate": optimizer.param_groups[0]["lr"],
                    "tokens_per_second": round(seen / seconds),
                }
                _log(run, record)
                left = timedelta(seconds=round(seconds / (done - start) * (settings.steps - done)))
                report(
                    f"training, loss {record['loss']:.4f}, cosine {record['cosine']:.4f}, "
                    f"{left} left",
                    done,
                    settings.steps,
                )
            stopped = asked()
            if done % settings.checkpoint_every == 0 or done == settings.steps or stopped:
                _log(run, {"step": done, "held_out_cosine": _held_out(model, lesson, settings)})
                _save(model, optimizer, run / CHECKPOINTS, done, manifest(done))
            if stopped and done < settings.steps:
                raise TrainingStoppedError(done)


def _optimizer(student: nn.Module, settings: NanoSettings) -> torch.optim.AdamW:
    """Embeddings and norms are not decayed: norms follow both, so only their direction counts."""
    named = list(student.named_parameters())
    plain = [p for name, p in named if p.ndim < 2 or "embeddings" in name]
    decayed = [p for name, p in named if p.ndim >= 2 and "embeddings" not in name]
    return torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": settings.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
        betas=(0.9, 0.98),
        eps=1e-8,
    )


def _pace(step: int, settings: NanoSettings) -> float:
    """The share of the highest learning rate that step s, from 0, is made with.

    >>> settings = NanoSettings(steps=10, warmup_steps=2, cooldown=0.5)
    >>> [round(_pace(step, settings), 2) for step in range(10)]
    [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2]
    """
    rising = (step + 1) / settings.warmup_steps
    return min(1.0, rising, (settings.steps - step) / (settings.cooldown * settings.steps))


def _batches(
    lengths: NDArray[np.int64], settings: NanoSettings
) -> Callable[[int], NDArray[np.int64]]:
    """A function that gives the rows of a step: each epoch holds every row once."""
    total = int(lengths.sum())
    count = max(1, total // settings.batch_tokens)
    held: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}

    def rows(step: int) -> NDArray[np.int64]:
        epoch, number = divmod(step, count)
        if epoch not in held:
            order = permuted(np.arange(len(lengths)), len(lengths), ("nano", settings.seed, epoch))
            # The tokens before the middle of a text decide which batch it is in.
            middles = np.cumsum(lengths[order]) - lengths[order] / 2
            bounds = np.searchsorted(middles, np.arange(count + 1) * (total / count))
            held.clear()
            held[epoch] = order, bounds
        order, bounds = held[epoch]
        return order[bounds[number] : bounds[number + 1]]

    return rows


def _loss(
    model: SentenceTransformer, lesson: Lesson, rows: NDArray[np.int64], settings: NanoSettings
) -> tuple[Tensor, Tensor]:
    """The loss of a batch, and the mean cosine to the targets, without gradient."""
    vectors, order = _embedded(model, [lesson.ids[row] for row in rows], settings)
    wanted = torch.from_numpy(lesson.targets[rows[order]].astype(np.float32)).to(vectors.device)
    wanted = functional.normalize(wanted, dim=1)
    cosine = (vectors * wanted).sum(dim=1).mean()
    loss = 1 - cosine
    if settings.agreement and len(rows) > 1:
        loss = loss + settings.agreement * agreement(vectors, wanted, settings.temperature)
    return loss, cosine.detach()


def _embedded(
    model: SentenceTransformer, ids: Sequence[NDArray[np.int32]], settings: NanoSettings
) -> tuple[Tensor, NDArray[np.int64]]:
    """Unit vectors ``[n, d]`` in fp32, and for each row which of the texts it is."""
    device = model.device
    kind = "cuda" if device.type == "cuda" else "cpu"
    chunks, order = chunked(ids, _CHUNK_TOKENS[kind], pad=0)
    parts = []
    for chunk in chunks:
        mask = chunk["attention_mask"].to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=_bf16(settings.precision)):
            tokens = model[0].auto_model(
                input_ids=chunk["input_ids"].to(device), attention_mask=mask
            )
        weights = mask.float()[:, :, None]
        mean = (tokens.last_hidden_state.float() * weights).sum(dim=1) / weights.sum(dim=1)
        parts.append(functional.normalize(mean, dim=1))
    return torch.cat(parts), order


def _bf16(precision: Precision) -> bool:
    if precision != "auto":
        return precision == "bf16"
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))


def _held_out(model: SentenceTransformer, lesson: Lesson, settings: NanoSettings) -> float:
    """The mean cosine to the targets of the texts that are not trained on."""
    total = 0.0
    with torch.no_grad():
        for start in range(0, lesson.held_out, 256):
            rows = np.arange(start, min(start + 256, lesson.held_out))
            _, cosine = _loss(model, lesson, rows, replace(settings, agreement=0.0))
            total += cosine.item() * len(rows)
    return total / lesson.held_out


def _save(
    model: SentenceTransformer,
    optimizer: torch.optim.AdamW,
    folder: Path,
    step: int,
    manifest: Manifest,
) -> None:
    whole = folder / f"checkpoint-{step}"
    if whole.exists():
        return
    shutil.rmtree(folder / PARTIAL, ignore_errors=True)
    part = folder / PARTIAL / whole.name
    save_model(model, part)
    moments = {
        f"{name}/{kind}": optimizer.state[parameter][kind]
        for name, parameter in model[0].auto_model.named_parameters()
        for kind in ("exp_avg", "exp_avg_sq")
    }
    save_file(moments, part / _MOMENTS)
    manifest.write(part)
    part.rename(whole)
    keep_last(folder, _KEPT)


def _restore(optimizer: torch.optim.AdamW, student: nn.Module, checkpoint: Path, step: int) -> None:
    moments = load_file(checkpoint / _MOMENTS)
    for name, parameter in student.named_parameters():
        optimizer.state[parameter] = {
            "step": torch.tensor(float(step)),
            **{
                kind: moments[f"{name}/{kind}"].to(parameter.device)
                for kind in ("exp_avg", "exp_avg_sq")
            },
        }


class _Mean:
    """Means of numbers since they were last taken."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._count = 0

    def add(self, **numbers: float) -> None:
        for name, number in numbers.items():
            self._sums[name] = self._sums.get(name, 0.0) + number
        self._count += 1

    def taken(self) -> dict[str, float]:
        means = {name: total / self._count for name, total in self._sums.items()}
        self._sums, self._count = {}, 0
        return means


def _log(run: Path, record: Mapping[str, Any]) -> None:
    with (run / LOG).open("a") as file:
        file.write(json.dumps(record) + "\n")
