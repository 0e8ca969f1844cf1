"""The working state of a run, ``OUT.run/``: what it is a run of, its checkpoints, its log.

A checkpoint is written under another name and renamed when it is whole, so whatever is called
``checkpoint-N`` can be gone on from; the last two are kept. The log has one JSON object a step; a
run that goes on from step N drops what it had logged after N, so that the log reads as if nothing
had happened.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import replacing

CHECKPOINTS, LOG, STATE, TOKENS = "checkpoints", "log.jsonl", "state.json", "tokens"
#: Where a checkpoint is written before it has its name.
PARTIAL = "partial"


def open_run(run: Path, state: dict[str, Any]) -> Path | None:
    """Starts a run's folder, or checks that it is the same run; its last checkpoint.

    Args:
        run: ``OUT.run``.
        state: What decides the result: recipe and inputs.

    Raises:
        ModernPubMedError: The folder holds another run; names what differs.
    """
    state_file = run / STATE
    if state_file.exists():
        before = json.loads(state_file.read_text("utf-8"))
        if differing := differences(before, json.loads(json.dumps(state))):
            raise ModernPubMedError(
                f"holds a run of another recipe, other pairs or another base ({differing[0]}"
                + (f" and {len(differing) - 1} more" if len(differing) > 1 else "")
                + ")",
                file=run,
                record=", ".join(name.partition(" ")[0] for name in differing),
                remedy="choose another --out, or delete that folder",
            )
    else:
        run.mkdir(parents=True, exist_ok=True)
        with replacing(state_file) as temporary:
            temporary.write_text(json.dumps(state, indent=2) + "\n", "utf-8")
    return last_checkpoint(run / CHECKPOINTS)


def differences(before: Any, now: Any, name: str = "") -> list[str]:
    """What differs between two nested structures, as ``key (was X, is Y)``.

    >>> differences({"run": {"seed": 1, "steps": 9}}, {"run": {"seed": 2, "steps": 9}})
    ['run.seed (was 1, is 2)']
    """
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        return [
            line
            for key in sorted({*before, *now})
            for line in differences(before.get(key), now.get(key), f"{name}.{key}".lstrip("."))
        ]
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        return [
            line
            for place, (one, two) in enumerate(zip(before, now, strict=True))
            for line in differences(one, two, f"{name}[{place}]")
        ]
    return [] if before == now else [f"{name} (was {_short(before)}, is {_short(now)})"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 20 else f"{text[:12]}…"


def checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints, oldest first."""
    return sorted(folder.glob("checkpoint-*"), key=step_of)


def step_of(checkpoint: Path) -> int:
    """The step after which a checkpoint was written."""
    return int(checkpoint.name.rpartition("-")[2])


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint, if there is one."""
    found = checkpoints(folder)
    return found[-1] if found else None


def keep_last(folder: Path, count: int) -> None:
    """Deletes all checkpoints but the last ``count``, and what a kill left half-written."""
    shutil.rmtree(folder / PARTIAL, ignore_errors=True)
    found = checkpoints(folder)
    for checkpoint in found[: max(0, len(found) - count)]:
        # Under another name first: a kill while it is deleted must not leave half of one.
        gone = folder / PARTIAL
        checkpoint.rename(gone)
        shutil.rmtree(gone)


def cut_log(path: Path, step: int) -> None:
    """Drops the records after ``step``, and a last line that a kill cut short."""
    if not path.exists():
        return
    kept = [line for line, record in _log_lines(path) if record["step"] <= step]
    with replacing(path) as temporary:
        temporary.write_text("".join(kept), "utf-8")


def read_log(path: Path) -> list[dict[str, Any]]:
    """The records of a log."""
    return [record for _, record in _log_lines(path)]


def _log_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for line in path.read_text("utf-8").splitlines(keepends=True):
        try:
            yield line, json.loads(line)
        except json.JSONDecodeError:
            # Only the last line can be half: a kill came while it was written.
            if line.endswith("\n"):
                raise


@contextmanager
def stopping_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Whether to save and stop after the step under way: Ctrl-C (or SIGTERM) asks for it.

    A second one stops at once.
    """
    asked: list[int] = []

    def ask(signum: int, frame: FrameType | None) -> None:
        if asked:
            signal.default_int_handler(signum, frame)
        asked.append(signum)
        sys.stderr.write("\nstopping after this step; Ctrl-C again to stop at once\n")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
