"""What a person at a terminal sees: verbs, results, remarks, one line of progress.

Results go to standard output, progress and remarks to standard error; the line of progress is
overwritten, and is not there where nobody watches.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Protocol

from modernpubmed.manifest import Manifest

Command = Callable[[argparse.Namespace], None]


class AddVerb(Protocol):
    """Adds a verb to the command line and returns its parser."""

    def __call__(self, name: str, command: Command, help: str, /) -> argparse.ArgumentParser: ...  # noqa: A002, D102


def say(text: str) -> None:
    """Prints a line to standard output, at once."""
    clear()
    print(text, flush=True)


def summary(manifest: Manifest, what: object) -> None:
    """Prints what a manifest counted, and what was left out; ``what`` is the artefact's name."""
    counts = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in manifest.counts.items())
    say(f"{what}: {counts}")
    if dropped := [f"{count:,} {reason}" for reason, count in manifest.dropped.items() if count]:
        say(f"left out: {', '.join(dropped)}")


def remark(text: str) -> None:
    """Prints a line to standard error, with our name before it."""
    clear()
    print(f"modernpubmed: {' '.join(text.split())}", file=sys.stderr, flush=True)


def report(what: str, done: int, total: int) -> None:
    """One line on a terminal, overwritten; nothing where nobody watches."""
    if not sys.stderr.isatty():
        return
    clear()
    if not total or done < total:
        share = f"{done:,}" if not total else f"{done:,} of {total:,}"
        print(f"{what}: {share}", end="", file=sys.stderr, flush=True)


def clear() -> None:
    """Takes away the line that ``report`` left."""
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,
    line: str | None = None,
) -> None:
    """A warning in one line, without the place in our code that it came from."""
    del category, filename, lineno, file, line
    remark(str(message))
