"""A small transformer of our own, distilled from an encoder: ``nano``.

What it learns is where the teacher puts texts. The teacher's vectors are turned to their principal
axes (not centred, so that cosines stay what they are), cut to the student's dimension and brought
to length 1; the loss of a batch of texts with student vectors s and targets t is

    mean_i (1 − s_i · t_i) + λ · agreement(s, t)

where ``agreement`` (see ``students``) is how far the nearness of the batch's texts to each other is
from what the teacher says. What the student starts from is in ``nano_model``.

No token is padding but for a few: a step has the same number of tokens in texts drawn at random,
which are computed in chunks of nearly one length. Which texts are in step s depends on nothing but
the seed and s. The learning rate rises, stays, and falls over the last part of the steps (Hu et
al. 2024, arXiv:2404.06395), so a run may be given more steps, or fewer, until it begins to fall.

``OUT.run/`` holds the tokenizer, the teacher's vectors in files named by their content, the log,
and checkpoints, each a model folder that can be used as it is. The same call goes on from the last
one to the same bits, on the same machine with as many threads. All texts are held in memory.

Then ``modernpubmed train`` with the student as base teaches it what pairs say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import transformers
from sentence_transformers import SentenceTransformer

from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import Manifest, replacing, sha256
from modernpubmed.protocols import DocumentEncoder
from modernpubmed.training.nano_lesson import Lesson, NanoSettings, check, prepared
from modernpubmed.training.nano_loop import train_student
from modernpubmed.training.nano_model import new_student, start_embeddings, token_texts
from modernpubmed.training.runs import open_run, step_of
from modernpubmed.training.students import Report, asked
from modernpubmed.training.texts import read_texts
from modernpubmed.training.train import load_base, save_model

#: Where the teacher's vectors are in ``OUT.run``.
_VECTORS = "vectors"
# Settings that may be changed when a run goes on.
_FREE = ("steps", "checkpoint_every")


def distil_nano(
    teacher: DocumentEncoder,
    files: Sequence[Path],
    out: Path,
    *,
    settings: NanoSettings | None = None,
    split: Callable[[str], list[str]] | None = None,
    cache: Path | None = None,
    report: Report | None = None,
) -> Manifest:
    """Writes a sentence-transformers folder with a small ModernBERT.

    Args:
        teacher: The encoder to learn from.
        files: Pairs, both of whose sides are learnt from, and single texts, as ``read_texts`` takes
            them. Equal texts count once.
        out: The folder to make. ``OUT.run`` beside it holds the state of the run.
        settings: How; None is the defaults.
        split: Gives the sentences of a text, which are then learnt from as well as the text.
        cache: A folder for the teacher's vectors that several runs share; None is in ``OUT.run``.
        report: Called as the work goes on.

    Returns:
        The manifest written into the model folder.

    Raises:
        ModernPubMedError: ``out`` exists; ``OUT.run`` is another run's; a file cannot be read;
            there are fewer than four texts; a setting is out of its range, or more than the
            teacher's vectors have; the loss is not finite.
        TrainingStoppedError: Ctrl-C or SIGTERM: the run is saved.
    """
    settings = settings or NanoSettings()
    report = report or (lambda _what, _done, _of: None)
    if out.exists():
        raise ModernPubMedError("exists already", file=out, remedy="choose another --out")
    check(settings, teacher)
    transformers.logging.disable_progress_bar()
    run = out.with_name(f"{out.name}.run")
    inputs, texts = _read(files, split, report)
    if len(texts) < 4:
        raise ModernPubMedError(
            f"{len(texts)} different texts in all", file=files[0], remedy="give four or more"
        )
    fixed = {key: value for key, value in asdict(settings).items() if key not in _FREE}
    inputs = {"teacher": teacher.fingerprint, **inputs}
    checkpoint = open_run(run, {"settings": fixed, "inputs": inputs, "texts": len(texts)})
    lesson = prepared(teacher, texts, run, cache or run / _VECTORS, settings, report)
    start = 0 if checkpoint is None else step_of(checkpoint)
    if start > settings.steps:
        raise ModernPubMedError(
            f"is at step {start} already", file=run, remedy=f"set steps to {start} or more"
        )
    if checkpoint is None:
        model = _new(teacher, lesson, settings, report)
    else:
        model = load_base(str(checkpoint))

    def manifest(step: int) -> Manifest:
        return Manifest(
            kind="model",
            inputs=inputs,
            settings={"teacher": teacher.name, "nano": asdict(settings)},
            counts={
                "texts": len(texts),
                "taught": len(lesson.ids) - lesson.held_out,
                "held_out": lesson.held_out,
                "vocabulary": lesson.tokenizer.get_vocab_size(),
                "parameters": sum(parameter.numel() for parameter in model.parameters()),
                "steps": step,
            },
            seed=settings.seed,
        )

    train_student(model, lesson, settings, run, checkpoint, manifest, report)
    final = manifest(settings.steps)
    with replacing(out) as temporary:
        save_model(model, temporary)
        final.write(temporary)
    return final


def _read(
    files: Sequence[Path], split: Callable[[str], list[str]] | None, report: Report
) -> tuple[dict[str, str], list[str]]:
    """The files' hashes, and the different texts in them, in order."""
    inputs: dict[str, str] = {}
    distinct: dict[str, None] = {}
    for number, path in enumerate(files):
        report("files read", number, len(files))
        read = read_texts(path)
        inputs[str(read.file)] = sha256(read.file)
        for side in (read.anchors, read.positives):
            distinct.update(dict.fromkeys(" ".join(text.split()) for text in side))
    if split is not None:
        for text in list(distinct):
            distinct.update(dict.fromkeys(split(text)))
    distinct.pop("", None)
    return inputs, list(distinct)


def _new(
    teacher: DocumentEncoder, lesson: Lesson, settings: NanoSettings, report: Report
) -> SentenceTransformer:
    """The student at step 0."""
    names = token_texts(lesson.tokenizer)
    vectors = asked(teacher, names, "teacher's vectors of tokens", report)
    counts = np.bincount(np.concatenate(list(lesson.ids)), minlength=len(names))
    embeddings = start_embeddings(vectors @ lesson.axes, counts)
    with TemporaryDirectory() as folder:
        return new_student(
            lesson.tokenizer,
            embeddings,
            Path(folder),
            layers=settings.layers,
            heads=settings.heads,
            intermediate=settings.intermediate,
            max_tokens=settings.max_tokens,
            seed=settings.seed,
        )
