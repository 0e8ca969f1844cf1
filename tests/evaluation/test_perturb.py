"""Perturbations keep the meaning, repeat themselves, and leave alone what they do not know."""

from __future__ import annotations

import pytest

from modernpubmed.evaluation import perturb
from modernpubmed.evaluation.perturb import PERTURBATIONS


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_a_text_always_gets_the_same(name: str) -> None:
    text = "Oxygen in chronic obstructive pulmonary disease (COPD), tumours and anemia"
    assert PERTURBATIONS[name](text) == PERTURBATIONS[name](text) != text


@pytest.mark.parametrize("name", PERTURBATIONS)
@pytest.mark.parametrize("text", ["", "   ", "…", "β-blocker", "a b c"])
def test_texts_with_nothing_to_change_do_no_harm(name: str, text: str) -> None:
    assert PERTURBATIONS[name](text).casefold().split() == text.casefold().split() or (
        name == "typing errors"
    )


def test_typing_errors_touch_one_word_in_six() -> None:
    words = [f"{'abcdefgh'[i % 8]}wordlike" for i in range(24)]
    text = " ".join(words)
    after = perturb.typos(text).split(" ")
    changed = [(a, b) for a, b in zip(words, after, strict=True) if a != b]
    assert len(changed) == 4
    assert all(a[0] == b[0] and abs(len(a) - len(b)) <= 1 for a, b in changed)


def test_a_typing_error_is_always_an_error() -> None:
    for number in range(2_000):
        word = f"aaaa{'abcdefghij'[number % 10]}a{'xyz'[number % 3]}a"
        text = f"{word} {number}"
        assert perturb.typos(text) != text, text


@pytest.mark.parametrize(
    ("text", "british"),
    [
        (
            "Colorectal tumors in laboratory literature",
            "Colorectal tumours in laboratory literature",
        ),
        ("LEUKEMIA", "LEUKAEMIA"),
        ("Hospitalization for diarrhea, two liters", "Hospitalisation for diarrhoea, two litres"),
        ("asymptomatic, edematous", "asymptomatic, oedematous"),
    ],
)
def test_spelling_goes_there_and_back(text: str, british: str) -> None:
    assert perturb.british(text) == british
    assert perturb.american(british) == text


def test_abbreviations_go_there_and_back_and_need_their_capitals() -> None:
    assert perturb.expanded("MRI in SLE, who knew") == (
        "magnetic resonance imaging in systemic lupus erythematosus, who knew"
    )
    assert perturb.abbreviated("Urinary tract infections and quality of life") == "UTIs and QoL"
    assert perturb.abbreviated("computed tomographyx") == "computed tomographyx"
