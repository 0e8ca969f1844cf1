"""Training: a recipe and a file of pairs in, a sentence-transformers folder out.

The loop is sentence-transformers' own trainer (AdamW, schedule, mixed precision, multi-GPU by
``torchrun`` or ``accelerate``); ours is the loss (``infonce``), the strictness of the recipe, and
that a run can be stopped and goes on with the same command. The working state of a run lies
beside its output, in ``OUT.run/``: ``checkpoints/``, ``state.json`` (what the run is a run of) and
``log.jsonl`` (one line a report). The model folder itself appears only when training is complete.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import datasets
import torch
import transformers
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.base.sampler import BatchSamplers
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import Manifest, replacing, sha256
from modernpubmed.training.data import read_columns, split_file
from modernpubmed.training.infonce import InfoNCELoss
from modernpubmed.training.recipe import Recipe

#: The files that every complete checkpoint holds; the last is the one the trainer writes last.
CHECKPOINT_FILES = ("optimizer.pt", "scheduler.pt", "trainer_state.json")


class TrainingStoppedError(Exception):
    """Ctrl-C: the run is saved at ``step`` and the same command goes on from there."""

    def __init__(self, step: int) -> None:
        self.step = step
        super().__init__(f"stopped and saved at step {step}; the same command goes on from there")


@dataclass(frozen=True, slots=True)
class _Data:
    train: Dataset
    dev: tuple[list[str], list[str]]
    inputs: dict[str, str]


def train(
    recipe: Recipe,
    pairs: Path,
    out: Path,
    *,
    base: str | None = None,
    report: Callable[[dict[str, Any]], None] | None = None,
) -> Manifest:
    """Fine-tunes the recipe's base model on pairs with InfoNCE.

    Args:
        recipe: What to do.
        pairs: A folder with ``train.parquet`` and, if the recipe evaluates, ``dev.parquet``; or a
            Parquet file of training pairs.
        out: The model folder to make. ``OUT.run`` beside it holds the state of the run.
        base: A local folder or hub name to use in place of the recipe's base.
        report: Called with each log record (step, loss, learning rate, dev metrics …).

    Returns:
        The manifest written into the model folder.

    Raises:
        ModernPubMedError: The pairs or the base cannot be read; there are fewer pairs than one
            batch needs; ``out`` exists; ``OUT.run`` belongs to another recipe or other pairs.
        TrainingStoppedError: Ctrl-C was pressed; nothing is lost.
    """
    if out.exists():
        raise ModernPubMedError("exists already", file=out, remedy="choose another --out")
    data = _read(recipe, pairs)
    # One tidy line a report is ours; the libraries' own bars and remarks would bury it.
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    model = load_base(base or recipe.base)
    inputs = {**data.inputs, **_base_checksum(base or recipe.base)}
    run = out.with_name(f"{out.name}.run")
    checkpoint = _open_run(run, {"recipe": recipe.as_dict(), "inputs": inputs})
    model.max_seq_length = recipe.tokens.train
    trainer = _trainer(recipe, model, data, run, report)
    with _stopping_on_interrupt(trainer):
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    step = trainer.state.global_step
    if step < recipe.run.steps:
        raise TrainingStoppedError(step)
    model.max_seq_length = recipe.tokens.serve
    manifest = Manifest(
        kind="model",
        inputs=inputs,
        settings={
            "base_model": recipe.base,
            "license": recipe.license,
            "recipe": recipe.as_dict(),
        },
        counts={
            "train_pairs": len(data.train),
            "dev_pairs": len(data.dev[0]),
            "pairs_seen": step * trainer.args.train_batch_size * trainer.args.world_size,
        },
        seed=recipe.run.seed,
    )
    if trainer.is_world_process_zero():
        with replacing(out) as temporary:
            save_model(model, temporary)
            manifest.write(temporary)
        shutil.rmtree(run / "checkpoints")
    return manifest


def load_base(name: str) -> SentenceTransformer:
    """A sentence-transformers model, or mean pooling on a bare encoder; local folder or hub name.

    Raises:
        ModernPubMedError: It is neither, has no weights, or the hub cannot be reached.
    """
    transformers.logging.disable_progress_bar()
    try:
        return SentenceTransformer(name, device=None, model_kwargs={"dtype": torch.float32})
    except (OSError, ValueError, KeyError, RuntimeError, AttributeError) as error:
        raise ModernPubMedError(
            f"cannot be loaded as a model ({str(error).splitlines()[0]})",
            file=name,
            remedy="give a folder with config, tokenizer and weights, or a hub name while online",
        ) from error


def save_model(model: SentenceTransformer, folder: Path) -> None:
    """Writes a sentence-transformers folder, without the automatic card: ours has results."""
    model.save_pretrained(str(folder), create_model_card=False, safe_serialization=True)


def _read(recipe: Recipe, pairs: Path) -> _Data:
    train_file = split_file(pairs, "train")
    anchors, positives = read_columns(train_file)
    if len(anchors) < recipe.run.batch_size:
        raise ModernPubMedError(
            f"{len(anchors)} pairs are fewer than one batch of {recipe.run.batch_size}",
            file=train_file,
            remedy="give more pairs, or a smaller run.batch_size in the recipe",
        )
    inputs = {"train_pairs": sha256(train_file)}
    dev: tuple[list[str], list[str]] = ([], [])
    if recipe.run.dev_pairs and pairs.is_dir():
        dev_file = split_file(pairs, "dev")
        dev = read_columns(dev_file, recipe.run.dev_pairs)
        inputs["dev_pairs"] = sha256(dev_file)
    return _Data(Dataset.from_dict({"anchor": anchors, "positive": positives}), dev, inputs)


def _base_checksum(base: str) -> dict[str, str]:
    weights = Path(base) / "model.safetensors"
    return {"base_weights": sha256(weights)} if weights.is_file() else {}


def _open_run(run: Path, state: dict[str, Any]) -> Path | None:
    """Starts a run's folder, or checks that it is the same run; its last whole checkpoint."""
    state_file = run / "state.json"
    if state_file.exists():
        if json.loads(state_file.read_text()) != state:
            raise ModernPubMedError(
                "holds a run of another recipe, other pairs or another base",
                file=run,
                remedy="choose another --out, or delete that folder",
            )
    else:
        run.mkdir(parents=True, exist_ok=True)
        with replacing(state_file) as temporary:
            temporary.write_text(json.dumps(state, indent=2) + "\n")
    return last_checkpoint(run / "checkpoints")


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint; one that a kill cut short is passed over."""
    complete = [
        path
        for path in folder.glob("checkpoint-*")
        if all((path / name).is_file() for name in CHECKPOINT_FILES)
    ]
    return max(complete, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def _trainer(
    recipe: Recipe,
    model: SentenceTransformer,
    data: _Data,
    run: Path,
    report: Callable[[dict[str, Any]], None] | None,
) -> SentenceTransformerTrainer:
    run_settings = recipe.run
    evaluator = _dev_evaluator(*data.dev) if data.dev[0] else None
    gpu_bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(run / "checkpoints"),
        max_steps=run_settings.steps,
        per_device_train_batch_size=run_settings.batch_size,
        learning_rate=recipe.optimizer.learning_rate,
        weight_decay=recipe.optimizer.weight_decay,
        warmup_steps=recipe.optimizer.warmup_steps,
        lr_scheduler_type=recipe.optimizer.schedule,
        optim="adamw_torch",
        bf16=run_settings.precision == "bf16" or (run_settings.precision == "auto" and gpu_bf16),
        seed=run_settings.seed,
        # Equal texts in one batch would be negatives of themselves.
        batch_sampler=BatchSamplers.NO_DUPLICATES,
        save_steps=run_settings.checkpoint_every,
        save_total_limit=2,
        eval_strategy="no" if evaluator is None else "steps",
        eval_steps=run_settings.evaluate_every,
        logging_steps=min(10, run_settings.steps),
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to="none",
    )
    loss = InfoNCELoss(model, temperature=recipe.loss.temperature, symmetric=recipe.loss.symmetric)
    trainer = _Trainer(
        model=model,
        args=arguments,
        train_dataset=data.train,
        loss=loss,
        evaluator=evaluator,
        callbacks=[_Log(run / "log.jsonl", report)],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


def _dev_evaluator(anchors: list[str], positives: list[str]) -> InformationRetrievalEvaluator:
    names = [str(row) for row in range(len(anchors))]
    return InformationRetrievalEvaluator(
        queries=dict(zip(names, anchors, strict=True)),
        corpus=dict(zip(names, positives, strict=True)),
        relevant_docs={name: {name} for name in names},
        mrr_at_k=[10],
        ndcg_at_k=[10],
        accuracy_at_k=[1],
        precision_recall_at_k=[1],
        map_at_k=[100],
        name="dev",
        write_csv=False,
    )


class _Trainer(SentenceTransformerTrainer):  # type: ignore[misc]
    """Their trainer without their model card, which would search the data for examples to show."""

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Ours is written from results."""


class _Log(TrainerCallback):  # type: ignore[misc]
    """Each log record to ``log.jsonl`` and to the caller."""

    def __init__(self, path: Path, report: Callable[[dict[str, Any]], None] | None) -> None:
        self.path = path
        self.report = report

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        logs: dict[str, Any] | None = None,
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        record = {"step": state.global_step, "steps": args.max_steps, **(logs or {})}
        if not state.is_world_process_zero:
            return
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        if self.report is not None:
            self.report(record)


class _Stop(TrainerCallback):  # type: ignore[misc]
    """Ends training after the step under way, with a checkpoint, once ``asked`` is set."""

    asked = False

    def on_step_end(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,  # noqa: ARG002
        control: TrainerControl,
        **kwargs: Any,  # noqa: ARG002
    ) -> TrainerControl:
        if self.asked:
            control.should_save = True
            control.should_training_stop = True
        return control


@contextmanager
def _stopping_on_interrupt(trainer: SentenceTransformerTrainer) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) saves and stops after the step; a second one stops at once."""
    stop = _Stop()
    trainer.add_callback(stop)

    def ask(signum: int, frame: FrameType | None) -> None:
        if stop.asked:
            signal.default_int_handler(signum, frame)
        stop.asked = True
        sys.stderr.write("\nstopping after this step; Ctrl-C again to stop at once\n")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
