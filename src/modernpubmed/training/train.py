"""Training: a recipe and pairs in, a sentence-transformers folder out.

The loop is sentence-transformers' own trainer; ours are the batches, the loss and exact resuming
(see ``trainer``). The working state of a run lies beside its output, in ``OUT.run/`` (see
``runs``). The model folder itself appears only when training is complete.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from tokenizers import Tokenizer
from torch import nn

from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import Manifest, replacing, sha256
from modernpubmed.training.assemble import Layout
from modernpubmed.training.batches import Source as Stock
from modernpubmed.training.batches import epochs, plan
from modernpubmed.training.data import read_columns, split_file
from modernpubmed.training.infonce import Objective
from modernpubmed.training.recipe import Recipe, Source
from modernpubmed.training.runs import (
    CHECKPOINTS,
    LOG,
    TOKENS,
    keep_last,
    open_run,
    read_log,
    step_of,
    stopping_on_interrupt,
)
from modernpubmed.training.step import Judges
from modernpubmed.training.subjects import by_subject
from modernpubmed.training.tokens import Form, Tokens, tokenise
from modernpubmed.training.trainer import Material, StopWhenAsked, Trainer, arguments

#: Padded tokens a chunk: on a CPU what its caches hold, on a GPU what keeps it busy.
CHUNK_TOKENS = {"cpu": 4_096, "cuda": 16_384}


class TrainingStoppedError(Exception):
    """Ctrl-C: the run is saved at ``step`` and the same command goes on from there."""

    def __init__(self, step: int) -> None:
        self.step = step
        super().__init__(f"stopped and saved at step {step}; the same command goes on from there")


def train(
    recipe: Recipe,
    pairs: Path,
    out: Path,
    *,
    base: str | None = None,
    cache: Path | None = None,
    report_to: Sequence[str] = (),
    report: Callable[[dict[str, Any]], None] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Manifest:
    """Fine-tunes the recipe's base model on pairs with InfoNCE.

    Args:
        recipe: What to do.
        pairs: A folder with ``train.parquet`` and, if the recipe evaluates, ``dev.parquet``; or a
            Parquet file of training pairs. If the recipe has several sources, a folder with such
            a folder for each, by its name.
        out: The model folder to make. ``OUT.run`` beside it holds the state of the run.
        base: A local folder or hub name to use in place of the recipe's base.
        cache: A folder for tokenised pairs that several runs share; without one they lie in
            ``OUT.run`` and are deleted when training is complete.
        report_to: Where else to log: ``tensorboard``, ``wandb``, ``trackio`` …, whatever
            transformers' trainer knows and is installed.
        report: Called with a record now and then: first what the run is (``epochs`` and
            ``pairs`` by source), then means over some steps, and dev metrics.
        progress: Called while pairs are tokenised: what, how many are done, of how many.

    Returns:
        The manifest written into the model folder.

    Raises:
        ModernPubMedError: The pairs or a model cannot be read; there are fewer pairs than one
            batch needs; ``out`` exists; ``OUT.run`` belongs to another recipe, other pairs or
            another base (names what differs); the loss is not finite (names the batch's pairs).
        TrainingStoppedError: Ctrl-C was pressed; nothing is lost.
    """
    if out.exists():
        raise ModernPubMedError("exists already", file=out, remedy="choose another --out")
    base = base or recipe.base
    files = [_folder(pairs, source, recipe) for source in recipe.sources]
    train_files = [split_file(path, "train") for path in files]
    checksums = [sha256(path) for path in train_files]
    inputs = _inputs(recipe, checksums)
    dev: tuple[list[str], list[str]] = ([], [])
    if recipe.run.dev_pairs and files[0].is_dir():
        dev_file = split_file(files[0], "dev")
        dev = read_columns(dev_file, recipe.run.dev_pairs)
        inputs["dev_pairs"] = sha256(dev_file)
    # One tidy line a report is ours; the libraries' own bars and remarks would bury it.
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    model = load_base(base)
    _refuse_too_long(recipe, model, base)
    without_dropout(model)
    # Batches are cut by the sources' own lengths; this is for evaluating and for checkpoints.
    model.max_seq_length = recipe.max_tokens
    inputs |= _base_checksum(base)
    run = out.with_name(f"{out.name}.run")
    gpu_bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    settings = recipe.run
    with _nothing_left_behind(run):
        args = arguments(
            run,
            steps=settings.steps,
            learning_rate=recipe.optimizer.learning_rate,
            weight_decay=recipe.optimizer.weight_decay,
            warmup_steps=recipe.optimizer.warmup_steps,
            schedule=recipe.optimizer.schedule,
            bf16=settings.precision == "bf16" or (settings.precision == "auto" and gpu_bf16),
            seed=settings.seed,
            checkpoint_every=settings.checkpoint_every,
            keep=settings.keep_checkpoints,
            evaluate_every=settings.evaluate_every if dev[0] else None,
            report_to=report_to,
        )
        if args.bf16 and model.device.type == "cpu":
            attend_plainly(model)
        tokenizer = tokenizer_of(model, base)
        forms = [_form(source, model, tokenizer) for source in recipe.sources]
        # The first process makes what the others then read.
        with args.main_process_first(local=False):
            checkpoint = open_run(run, {"recipe": recipe.as_dict(), "inputs": inputs})
            stores = [
                tokenise(
                    path,
                    checksum,
                    form,
                    run / TOKENS if cache is None else cache,
                    workers=os.cpu_count() or 1,
                    progress=None if progress is None else partial(progress, "pairs tokenised"),
                )
                for path, checksum, form in zip(train_files, checksums, forms, strict=True)
            ]
        stock = [
            _stock(source, store, model)
            for source, store in zip(recipe.sources, stores, strict=True)
        ]
        batches = plan(stock, seed=settings.seed, world=args.world_size)
    if report is not None and args.process_index == 0:
        report(
            {
                "step": 0 if checkpoint is None else step_of(checkpoint),
                "steps": settings.steps,
                "epochs": epochs(batches, settings.steps),
                "pairs": {
                    source.name: dict(store.counts)
                    for source, store in zip(recipe.sources, stores, strict=True)
                },
            }
        )

    def manifest(step: int) -> Manifest:
        return Manifest(
            kind="model",
            inputs=inputs,
            settings={
                "base_model": recipe.base,
                "license": recipe.license,
                "recipe": recipe.as_dict(),
                "devices": args.world_size,
                "epochs": {name: round(n, 4) for name, n in epochs(batches, step).items()},
            },
            counts={
                "train_pairs": sum(len(store) for store in stores),
                "dev_pairs": len(dev[0]),
                "steps": step,
                "pairs_seen": sum(record.get("pairs", 0) for record in read_log(run / LOG)),
                "anchors_cut": sum(store.counts["anchors_cut"] for store in stores),
                "positives_cut": sum(store.counts["positives_cut"] for store in stores),
            },
            seed=settings.seed,
        )

    trainer = Trainer(
        model,
        args,
        Material(
            plan=batches,
            names=tuple(source.name for source in recipe.sources),
            files=tuple(train_files),
            tokens=tuple(stores),
            layouts=tuple(_layout(source, recipe, model) for source in recipe.sources),
            objective=Objective(
                recipe.loss.temperature,
                recipe.loss.symmetric,
                recipe.loss.matryoshka,
                recipe.loss.distillation,
            ),
            judges=_judges(recipe, base, model, tokenizer),
            memory_tokens=settings.memory_tokens,
        ),
        run,
        start=0 if checkpoint is None else step_of(checkpoint),
        manifest=manifest,
        evaluator=_dev_evaluator(*dev) if dev[0] else None,
        report=report,
    )
    with stopping_on_interrupt() as asked:
        trainer.add_callback(StopWhenAsked(asked))
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    step = trainer.state.global_step
    if step < settings.steps:
        raise TrainingStoppedError(step)
    final = manifest(step)
    if trainer.is_world_process_zero():
        with replacing(out) as temporary:
            save_model(model, temporary)
            final.write(temporary)
        shutil.rmtree(run / TOKENS, ignore_errors=True)
        keep_last(run / CHECKPOINTS, settings.keep_checkpoints)
        if not settings.keep_checkpoints:
            shutil.rmtree(run / CHECKPOINTS)
    trainer.accelerator.wait_for_everyone()
    return final


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


def without_dropout(model: nn.Module) -> None:
    """Switches a model's dropout off.

    A pair is seen once or a few times, so there is nothing to be kept from learning by heart; and
    on a CPU dropout takes as long as half of the rest of a step, or more (docs/lab-notes.md).
    """
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0


def attend_plainly(model: SentenceTransformer) -> None:
    """Attention as plain matrix products.

    torch's fused attention for CPUs spends more time on its gradient in bf16 than all the rest of
    a step takes (torch 2.13; docs/lab-notes.md).
    """
    if hasattr(model[0], "auto_model"):
        model[0].auto_model.set_attn_implementation("eager")


def save_model(model: SentenceTransformer, folder: Path) -> None:
    """Writes a sentence-transformers folder, without the automatic card: ours has results."""
    model.save_pretrained(str(folder), create_model_card=False, safe_serialization=True)


def _base_checksum(base: str) -> dict[str, str]:
    weights = Path(base) / "model.safetensors"
    return {"base_weights": sha256(weights)} if weights.is_file() else {}


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


def _folder(pairs: Path, source: Source, recipe: Recipe) -> Path:
    if len(recipe.sources) == 1 and not (pairs / source.name).is_dir():
        return pairs
    if not (pairs / source.name).is_dir():
        raise ModernPubMedError(
            f"the recipe's source {source.name!r} has no folder here",
            file=pairs,
            record=source.name,
            remedy=f"make it: modernpubmed pairs … --kind KIND --out {pairs / source.name}",
        )
    return pairs / source.name


def _inputs(recipe: Recipe, checksums: Sequence[str]) -> dict[str, str]:
    if len(checksums) == 1:
        return {"train_pairs": checksums[0]}
    return {
        f"train_pairs/{source.name}": checksum
        for source, checksum in zip(recipe.sources, checksums, strict=True)
    }


@contextmanager
def _nothing_left_behind(run: Path) -> Iterator[None]:
    """A run that could not start leaves no folder."""
    new = not run.exists()
    try:
        yield
    except BaseException:
        if new:
            shutil.rmtree(run, ignore_errors=True)
        raise


def _refuse_too_long(recipe: Recipe, model: SentenceTransformer, base: str) -> None:
    config = getattr(model[0], "auto_model", model).config
    positions = getattr(config, "max_position_embeddings", None)
    asked = {"max_tokens": recipe.max_tokens}
    for source in recipe.sources:
        asked[f"anchor_tokens of {source.name}"] = source.anchor_tokens
        asked[f"positive_tokens of {source.name}"] = source.positive_tokens
    for key, tokens in asked.items():
        if positions is not None and tokens > positions:
            raise ModernPubMedError(
                f"reads at most {positions} tokens, and the recipe asks for {tokens}",
                file=base,
                record=key,
                remedy=f"set it to {positions} or less",
            )


def _form(source: Source, model: SentenceTransformer, tokenizer: str) -> Form:
    return Form(
        tokenizer=tokenizer,
        anchor_tokens=source.anchor_tokens,
        positive_tokens=source.positive_tokens,
        # What the finished model will be asked with, it is trained with.
        anchor_prompt=model.prompts.get("query") or "",
        positive_prompt=model.prompts.get("document") or "",
        negatives=source.negatives,
        contrast=source.contrast,
    )


def tokenizer_of(model: SentenceTransformer, name: str) -> str:
    """The model's tokenizer as JSON, whatever it was last used for.

    Raises:
        ModernPubMedError: It has none of the fast ones, or one that is not this model's: with more
            tokens than the model has embeddings.
    """
    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModernPubMedError(
            "has no fast tokenizer (tokenizer.json)",
            file=name,
            remedy="convert it: AutoTokenizer.from_pretrained(…).save_pretrained(…)",
        )
    tokenizer = Tokenizer.from_str(backend.to_str())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    rows = model[0].auto_model.get_input_embeddings().num_embeddings
    last = max(tokenizer.get_vocab().values())
    if last >= rows:
        raise ModernPubMedError(
            f"its tokenizer has ids up to {last}, its weights embeddings for {rows} tokens",
            file=name,
            remedy="give the tokenizer that the model was trained with",
        )
    return str(tokenizer.to_str())


def _stock(source: Source, store: Tokens, model: SentenceTransformer) -> Stock:
    order = None
    if source.batches == "subject":
        table = model[0].auto_model.get_input_embeddings().weight.detach().float().cpu().numpy()
        order = by_subject(store.positive, table)
    return Stock(
        name=source.name,
        weight=source.weight,
        lengths=store.lengths,
        keys=store.keys,
        batch_size=source.batch_size or None,
        batch_tokens=source.batch_tokens or None,
        order=order,
    )


def _layout(source: Source, recipe: Recipe, model: SentenceTransformer) -> Layout:
    device = "cpu" if model.device.type == "cpu" else "cuda"
    return Layout(
        pad=model.tokenizer.pad_token_id or 0,
        chunk_tokens=min(CHUNK_TOKENS[device], recipe.run.memory_tokens),
        negatives=source.negatives + (source.contrast == "documents"),
        contrast=source.contrast == "queries",
        mesh_overlap=recipe.masks.mesh_overlap,
    )


def _judges(recipe: Recipe, base: str, model: SentenceTransformer, tokenizer: str) -> Judges:
    def judge(name: str) -> SentenceTransformer:
        loaded = load_base(name)
        # It is handed the same token ids.
        if tokenizer_of(loaded, name) != tokenizer:
            raise ModernPubMedError(
                "its tokenizer is another than the base's",
                file=name,
                remedy="choose a teacher and a guide that share the base's tokenizer",
            )
        return loaded.to(model.device).eval().requires_grad_(requires_grad=False)

    return Judges(
        teacher=judge(recipe.loss.teacher or base) if recipe.loss.distillation else None,
        guide=judge(recipe.masks.guide) if recipe.masks.guide else None,
        guide_margin=recipe.masks.guide_margin,
    )
