"""The command line's verb ``distil``: small students of a model, one kind a sub-verb.

As in ``cli.py``: arguments in, one call, print.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modernpubmed.encoder import Encoder
from modernpubmed.errors import needs_extra
from modernpubmed.manifest import Manifest
from modernpubmed.pairs.sentences import sentences
from modernpubmed.terminal import AddVerb, report, summary

Student = Callable[[argparse.Namespace], Manifest]


def add_distil_verb(verb: AddVerb) -> None:
    """Adds it."""
    parser = verb("distil", _distil, "make a smaller, faster model that imitates another")
    students = parser.add_subparsers(required=True, metavar="STUDENT")

    def student(name: str, make: Student, help: str) -> argparse.ArgumentParser:  # noqa: A002
        added = students.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")
        added.set_defaults(student=make)
        added.add_argument("teacher", help="folder or hub name; 'shipped' is the package's")
        added.add_argument(
            "files",
            type=Path,
            nargs="+",
            metavar="FILE",
            help="pairs (folder or .parquet), or single texts (.txt, .jsonl; also .gz, .zst)",
        )
        added.add_argument("--out", type=Path, required=True, help="the model folder to make")
        added.add_argument("--seed", type=int, default=42, help="default %(default)s")
        return added

    add = student("static", _static, "one vector a token, no transformer")
    add.add_argument("--dim", type=int, default=256, help="numbers a vector; default %(default)s")
    add.add_argument("--tokens", type=int, default=18_000, help="at most; default %(default)s")
    add.add_argument("--steps", type=int, help="of training")
    add.add_argument("--teacher-texts", type=int, help="that the teacher is asked about")

    add = student("nano", _nano, "a ModernBERT of four small layers that reads 2,048 tokens")
    add.add_argument("--steps", type=int, help="of training; a stopped run may go on with others")
    add.add_argument("--texts", type=int, help="that the teacher is asked about")
    add.add_argument("--cache", type=Path, help="folder for the teacher's vectors, to share them")


def _distil(options: argparse.Namespace) -> None:
    summary(options.student(options), options.out)


def _static(options: argparse.Namespace) -> Manifest:
    with needs_extra("train", "distilling"):
        from modernpubmed.training.static import Settings, distil_static
    teacher = _teacher(options)
    given = _given(options, "dim", "tokens", "steps", "teacher_texts", "seed")
    return distil_static(
        teacher,
        (teacher.folder or Path(options.teacher)) / "tokenizer.json",
        options.files,
        options.out,
        settings=Settings(**given),
        report=report,
    )


def _nano(options: argparse.Namespace) -> Manifest:
    with needs_extra("train", "distilling"):
        from modernpubmed.training.nano import distil_nano
        from modernpubmed.training.nano_lesson import NanoSettings
        from modernpubmed.training.train import TrainingStoppedError
    try:
        return distil_nano(
            _teacher(options),
            options.files,
            options.out,
            settings=NanoSettings(**_given(options, "steps", "texts", "seed")),
            split=sentences,
            cache=options.cache,
            report=report,
        )
    except TrainingStoppedError as stopped:
        raise KeyboardInterrupt(str(stopped)) from stopped


def _teacher(options: argparse.Namespace) -> Encoder:
    return Encoder.load(None if options.teacher == "shipped" else options.teacher)


def _given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The options that were given; the others keep their defaults."""
    return {name: value for name in names if (value := getattr(options, name)) is not None}
