from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import Manifest, refuse_other_files, replacing, sha256


def test_round_trip_through_a_folder(tmp_path: Path):
    manifest = Manifest(kind="pairs", inputs={"a": "00"}, counts={"in": 3}, dropped={"short": 1})
    manifest.write(tmp_path)
    assert Manifest.read(tmp_path) == manifest
    assert json.loads((tmp_path / "manifest.json").read_text())["dropped"] == {"short": 1}


@pytest.mark.parametrize("content", [None, "{", '{"kind": "x", "surprise": 1}', "[]"])
def test_an_unreadable_manifest_is_refused(tmp_path: Path, content: str | None):
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ModernPubMedError, match="manifest"):
        Manifest.read(tmp_path)


def test_sha256_of_a_file_and_of_a_folder(tmp_path: Path):
    (tmp_path / "one").write_bytes(b"1")
    assert sha256(tmp_path / "one") == hashlib.sha256(b"1").hexdigest()
    before = sha256(tmp_path)
    (tmp_path / "one").rename(tmp_path / "two")
    assert sha256(tmp_path) != before


def test_replacing_leaves_nothing_behind_on_failure(tmp_path: Path):
    target = tmp_path / "deep" / "file"
    with pytest.raises(KeyboardInterrupt), replacing(target) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert list((tmp_path / "deep").iterdir()) == []


def test_replacing_keeps_the_old_until_the_new_is_whole(tmp_path: Path):
    target = tmp_path / "folder"
    target.mkdir()
    (target / "old").touch()
    with pytest.raises(ValueError, match="no"), replacing(target) as temporary:
        temporary.mkdir()
        raise ValueError("no")
    assert [path.name for path in target.iterdir()] == ["old"]
    with replacing(target) as temporary:
        temporary.mkdir()
        (temporary / "new").touch()
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def refusal(target: Path) -> str | None:
    try:
        refuse_other_files(target, "pairs", {"train", "dev"}, "this is no folder of pairs")
    except ModernPubMedError as error:
        return str(error).removeprefix(f"{target}: this is no folder of pairs: ")
    return None


def test_what_may_be_replaced(tmp_path: Path):
    target = tmp_path / "out"
    assert refusal(target) is None  # nothing there
    target.mkdir()
    assert refusal(target) is None  # an empty folder
    Manifest("pairs").write(target)
    assert refusal(target) is None  # a manifest, and not every file of ours
    (target / "train").touch()
    (target / "dev").mkdir()
    assert refusal(target) is None


def test_a_folder_of_anything_else_is_never_replaced(tmp_path: Path):
    target = tmp_path / "out"
    target.mkdir()
    # A user's own file may have a name that ours has too: only the manifest says that it is ours.
    (target / "train").touch()
    no_manifest = "the folder has no manifest of kind pairs. Remedy: name a new folder."
    assert refusal(target) == no_manifest
    Manifest("index").write(target)
    assert refusal(target) == no_manifest
    (target / "manifest.json").write_text("{}")
    assert refusal(target) == no_manifest
    Manifest("pairs").write(target)
    assert refusal(target) is None
    # And a user's file beside ours would be lost with them.
    (target / "thesis.txt").write_text("years of work")
    assert (
        refusal(target) == "the folder holds other files (thesis.txt). Remedy: name a new folder."
    )
    assert refusal(target / "thesis.txt") == "there is a file here. Remedy: name a new folder."
    (target / "thesis.txt").rename(target / ".hidden")
    assert refusal(target) == "the folder holds other files (.hidden). Remedy: name a new folder."
