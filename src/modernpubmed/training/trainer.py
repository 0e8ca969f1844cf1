"""sentence-transformers' trainer, with our batches, our gradient, and checkpoints one can trust.

Theirs: the loop, AdamW, the schedule, clipping, mixed precision, one or many devices by
``torchrun`` or ``accelerate``, TensorBoard, W&B and trackio. Ours: which pairs are in a batch
(``batches``), how they become tensors (``assemble``), how they become a gradient (``step``), and
that a run which was killed goes on bit by bit as if it had not been.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import Manifest
from modernpubmed.training.assemble import Layout, assemble
from modernpubmed.training.batches import Plan, batch_at
from modernpubmed.training.infonce import Objective
from modernpubmed.training.runs import CHECKPOINTS, LOG, PARTIAL, cut_log, keep_last
from modernpubmed.training.step import Judges, gradient
from modernpubmed.training.tokens import Tokens

#: Checkpoints kept while a run goes on.
KEPT = 2
#: Steps between lines on the terminal.
REPORT_EVERY = 10

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Material:
    """What the trainer learns from.

    Attributes:
        plan: Which rows are in which batch.
        names: The sources' names.
        files: The sources' files, for messages.
        tokens: The sources' stores.
        layouts: How their batches are made.
        objective: The loss.
        judges: Frozen models.
        memory_tokens: See ``Run``.
    """

    plan: Plan
    names: tuple[str, ...]
    files: tuple[Path, ...]
    tokens: tuple[Tokens, ...]
    layouts: tuple[Layout, ...]
    objective: Objective
    judges: Judges
    memory_tokens: int


class _Steps(Dataset[dict[str, Any]]):
    """Item s is this process's share of the batch of step s."""

    def __init__(self, material: Material, rank: int, world: int) -> None:
        self.material, self.rank, self.world = material, rank, world

    def __getitem__(self, step: int) -> dict[str, Any]:
        plan = self.material.plan
        shares = [batch_at(plan, step, rank) for rank in range(self.world)]
        source = shares[0].source
        item = assemble(
            self.material.tokens[source],
            [share.rows for share in shares],
            self.rank,
            self.material.layouts[source],
        )
        return {**item, "source": source, "epoch": shares[0].epoch, "left_out": shares[0].left_out}


class _From(Sampler[int]):
    """Steps from the one to go on with; as long as the whole run."""

    def __init__(self, start: int, steps: int) -> None:
        self.start, self.steps = start, steps

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.steps))

    def __len__(self) -> int:
        return self.steps


class Trainer(SentenceTransformerTrainer):  # type: ignore[misc]
    """Their loop around our step."""

    def __init__(
        self,
        model: SentenceTransformer,
        arguments: SentenceTransformerTrainingArguments,
        material: Material,
        run: Path,
        *,
        start: int,
        manifest: Callable[[int], Manifest],
        evaluator: InformationRetrievalEvaluator | None,
        report: Report | None,
    ) -> None:
        self.material = material
        self.run = run
        self.start = start
        self.manifest = manifest
        self.report = report
        self._partial: Path | None = None
        self._started = time.perf_counter()
        #: What the step under way will be logged with.
        self._now: dict[str, Any] = {}
        #: The steps since the last report.
        self._since: list[dict[str, Any]] = []
        # Their optimiser gets the parameters of their loss module; ours is no module, so this only
        # says which parameters to train.
        parameters = nn.ModuleDict({"model": model})
        super().__init__(
            model=model, args=arguments, loss=parameters, evaluator=evaluator, callbacks=[]
        )
        self.remove_callback(transformers.PrinterCallback)
        self.add_callback(_EachStep(self))
        if self.is_world_process_zero():
            cut_log(run / LOG, start)

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Ours is written from results."""

    def get_train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Batches from the step to go on with; ready-made, so there is nothing to shard."""
        # On a GPU the next batches are assembled meanwhile; on a CPU there is nobody to do it.
        workers = 2 if self.args.device.type == "cuda" and sys.platform == "linux" else 0
        return DataLoader(
            _Steps(self.material, self.args.process_index, self.args.world_size),
            batch_size=None,
            sampler=_From(self.start, self.args.max_steps),
            num_workers=workers,
            # Its own, or starting to iterate would draw one of the numbers that dropout is due.
            generator=torch.Generator(),
            pin_memory=self.args.device.type == "cuda",
        )

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """Where a step begins: waiting for data is part of its time."""
        self._started = time.perf_counter()
        return super().get_batch_samples(*args, **kwargs)

    def training_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: torch.Tensor | int | None = None,  # noqa: ARG002
    ) -> torch.Tensor:
        """The gradient of one batch.

        Raises:
            ModernPubMedError: The loss is not finite; names the pairs.
        """
        model.train()
        batch = self._prepare_inputs(inputs)
        result = gradient(
            model,
            batch,
            self.material.objective,
            memory_tokens=self.material.memory_tokens,
            judges=self.material.judges,
            backward=self.accelerator.backward,
            quiet=partial(self.accelerator.no_sync, model),
        )
        sums = torch.stack(
            [
                result.loss.float(),
                result.accuracy,
                torch.tensor(float(batch["tokens"]), device=result.loss.device),
                torch.tensor(float(batch["padded"]), device=result.loss.device),
            ]
        )
        loss, accuracy, tokens, padded = self.accelerator.reduce(sums, "mean").tolist()
        self._now = {
            "source": self.material.names[batch["source"]],
            "epoch": batch["epoch"],
            "pairs": len(batch["rows"]) * self.args.world_size,
            "loss": loss,
            "accuracy": accuracy,
            "masked": dict(result.masked),
            "left_out": batch["left_out"],
            "padding": 1 - tokens / padded,
            "tokens": round(tokens * self.args.world_size),
            "cached": result.cached,
            "rows": batch["rows"],
            "at": batch["source"],
        }
        self._refuse_unless_finite(loss, "loss")
        return result.loss.detach()

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        norm = super()._clip_grad_norm(model)
        self._now["grad_norm"] = float(norm)
        self._now["learning_rate"] = self._get_learning_rate()
        # Here, before the optimiser has made all weights NaN.
        self._refuse_unless_finite(float(norm), "gradient norm")
        return norm

    def _refuse_unless_finite(self, value: float, what: str) -> None:
        if math.isfinite(value):
            return
        rows, source = self._now["rows"], self._now["at"]
        pmids = self.material.tokens[source].pmids[rows]
        named = [
            f"{row} (PMID {pmid})" if pmid else str(row)
            for row, pmid in zip(rows.tolist(), pmids.tolist(), strict=True)
        ]
        raise ModernPubMedError(
            f"the {what} of step {self.state.global_step + 1} is {value}; "
            "the last checkpoint is good and kept",
            file=self.material.files[source],
            record=f"rows {', '.join(named)}",
            remedy="look at these pairs, or lower optimizer.learning_rate, in a new --out",
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds what we measure to what the integrations are told."""
        if "loss" in logs and self._since:
            logs = {**logs, **summary(self._since)}
        super().log(logs, start_time)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = Path(self.args.output_dir)
        whole = folder / f"checkpoint-{self.state.global_step}"
        if whole.exists():
            return
        partial_folder = folder / PARTIAL
        if self.is_world_process_zero():
            shutil.rmtree(partial_folder, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self._partial = partial_folder
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self._partial = None
        self.accelerator.wait_for_everyone()
        if self.is_world_process_zero():
            self.manifest(self.state.global_step).write(partial_folder / whole.name)
            (partial_folder / whole.name).rename(whole)
            keep_last(folder, max(KEPT, self.args.save_total_limit or 0))
        self.accelerator.wait_for_everyone()

    def _get_output_dir(self, trial: Any) -> str:
        return super()._get_output_dir(trial) if self._partial is None else str(self._partial)

    def step_ended(self) -> None:
        """Logs the step; every few steps, reports."""
        seconds = time.perf_counter() - self._started
        record = {
            "step": self.state.global_step,
            "steps": self.args.max_steps,
            **{key: value for key, value in self._now.items() if key not in ("rows", "at")},
            "tokens_per_second": round(self._now["tokens"] / seconds, 1),
            "pairs_per_second": round(self._now["pairs"] / seconds, 2),
        }
        self._write(record)
        self._since = [*self._since, record][-REPORT_EVERY:]
        due = record["step"] % REPORT_EVERY == 0 or record["step"] == record["steps"]
        if due and self.report is not None and self.is_world_process_zero():
            self.report({"step": record["step"], "steps": record["steps"], **summary(self._since)})

    def evaluated(self, metrics: dict[str, float]) -> None:
        """Logs and reports the metrics of the dev split."""
        prefix = "eval_dev_cosine_"
        record = {
            "step": self.state.global_step,
            "steps": self.args.max_steps,
            **{
                f"dev_{key.removeprefix(prefix)}": value
                for key, value in metrics.items()
                if key.startswith(prefix)
            },
        }
        self._write(record)
        if self.report is not None and self.is_world_process_zero():
            self.report(record)

    def _write(self, record: dict[str, Any]) -> None:
        if self.is_world_process_zero():
            with (self.run / LOG).open("a") as file:
                file.write(json.dumps(record) + "\n")


def summary(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Some steps in one record: means, the last learning rate, sums of what was masked."""
    count = len(records)
    masked: Counter[str] = Counter()
    for record in records:
        masked.update(record["masked"])
    means = ("loss", "grad_norm", "accuracy", "padding", "tokens_per_second", "pairs_per_second")
    return {
        **{key: sum(record[key] for record in records) / count for key in means},
        "learning_rate": records[-1]["learning_rate"],
        "masked": sum(masked.values()),
        **{f"masked {reason}": number for reason, number in masked.items()},
    }


class _EachStep(TrainerCallback):  # type: ignore[misc]
    """Tells the trainer when a step has ended and when it has been evaluated."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def on_step_end(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,  # noqa: ARG002
        control: TrainerControl,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        self.trainer.step_ended()

    def on_evaluate(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,  # noqa: ARG002
        control: TrainerControl,  # noqa: ARG002
        metrics: dict[str, float],
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        self.trainer.evaluated(metrics)


class StopWhenAsked(TrainerCallback):  # type: ignore[misc]
    """Ends training after the step under way, with a checkpoint, once it is asked to."""

    def __init__(self, asked: Callable[[], bool]) -> None:
        self.asked = asked

    def on_step_end(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,  # noqa: ARG002
        control: TrainerControl,
        **kwargs: Any,  # noqa: ARG002
    ) -> TrainerControl:
        """Looks whether it was."""
        if self.asked():
            control.should_save = True
            control.should_training_stop = True
        return control


def arguments(
    run: Path,
    *,
    steps: int,
    learning_rate: float,
    weight_decay: float,
    warmup_steps: int,
    schedule: str,
    bf16: bool,
    seed: int,
    checkpoint_every: int,
    keep: int,
    evaluate_every: int | None,
    report_to: Sequence[str],
) -> SentenceTransformerTrainingArguments:
    """Their settings for our run."""
    return SentenceTransformerTrainingArguments(
        output_dir=str(run / CHECKPOINTS),
        run_name=run.stem,
        max_steps=steps,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        warmup_steps=warmup_steps,
        lr_scheduler_type=schedule,
        bf16=bf16,
        # Said outright: only then do several processes without a GPU find each other.
        use_cpu=not torch.accelerator.is_available(),
        seed=seed,
        save_steps=checkpoint_every,
        save_total_limit=max(KEPT, keep),
        # Batches are found by their step; nothing has to be skipped.
        ignore_data_skip=True,
        logging_nan_inf_filter=False,
        eval_strategy="no" if evaluate_every is None else "steps",
        eval_steps=evaluate_every,
        logging_steps=min(REPORT_EVERY, steps),
        disable_tqdm=True,
        report_to=list(report_to) or "none",
    )
