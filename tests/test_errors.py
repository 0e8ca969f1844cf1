from __future__ import annotations

from pathlib import Path

from modernpubmed.errors import MissingExtraError, ModernPubMedError


def test_all_four_parts_in_one_line():
    error = ModernPubMedError(
        "is not\na number.", file=Path("a/b.tsv"), record="line 3", remedy="write\none"
    )
    assert str(error) == "a/b.tsv: line 3: is not a number. Remedy: write one."
    assert (error.file, error.record, error.cause) == ("a/b.tsv", "line 3", "is not a number")


def test_only_the_cause():
    assert str(ModernPubMedError("nothing here")) == "nothing here."


def test_missing_extra_is_caught_as_the_one_error_type():
    error = MissingExtraError("search", "an index")
    assert isinstance(error, ModernPubMedError)
    assert "modernpubmed[search]" in str(error)
