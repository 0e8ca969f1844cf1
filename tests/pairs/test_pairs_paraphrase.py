"""Paraphrases by rule: other words, the same meaning, the same on every machine."""

from __future__ import annotations

import pytest

from modernpubmed.evaluation.contrast import read_contrast_suite
from modernpubmed.folding import folded
from modernpubmed.pairs.kinds import paraphrased
from modernpubmed.pairs.paraphrase import MAX_CHANGES, _rules, paraphrase
from modernpubmed.records import Pair
from modernpubmed.training.contrast import contrasts


def test_one_to_three_places_change_and_the_rest_stays() -> None:
    text = "Renal and hepatic function before and after surgery in elderly patients, mainly women"
    made = {paraphrase(text, seed=seed) for seed in range(40)}
    assert None not in made
    assert text not in made
    assert len(made) > 3
    for other in made:
        assert other is not None
        assert other.endswith(("women", "females"))
        assert sum(word not in text.split() for word in other.split()) <= 3 * MAX_CHANGES


def test_seed_and_text_alone_decide() -> None:
    text = "Effects of drug therapy on mortality"
    assert paraphrase(text, seed=7) == paraphrase(text, seed=7)


@pytest.mark.parametrize(
    "text",
    [
        "Heart rate variability and the heat stroke",  # phrases that are kept
        "drug-induced",  # one word
        "Asyncio in practice",
        "",
    ],
)
def test_where_no_rule_applies_there_is_none(text: str) -> None:
    assert paraphrase(text) is None


@pytest.mark.parametrize("text", ["RENAL FAILURE", "Renal failure", "renal failure"])
def test_case_is_kept(text: str) -> None:
    other = paraphrase(text)
    assert other is not None
    assert (other.isupper(), other[0].isupper()) == (text.isupper(), text[0].isupper())


def test_articles_follow() -> None:
    found = {paraphrase("A drug for pain", seed=seed) for seed in range(20)}
    assert "A medication for pain" in found or "A medicine for pain" in found


def test_a_paraphrase_is_never_one_of_the_contrasts() -> None:
    """What keeps the meaning must not be what training takes for another meaning."""
    rules = _rules()
    for term, (written, others) in rules.terms.items():
        text = f"The case of {written} in this cohort"
        changed = {folded(made.text) for made in contrasts(text)}
        for other in others:
            assert folded(f"The case of {other} in this cohort") not in changed, (term, other)


def test_a_pair_becomes_its_title_or_a_sentence_in_other_words() -> None:
    abstract = (
        "We enrolled forty elderly patients in two hospitals over a year. Renal failure occurred "
        "more frequently after surgery in the group without prophylaxis. No deaths were seen."
    )
    found = set()
    for pmid in range(1, 21):
        pair = paraphrased(Pair(f"Renal outcomes {pmid} after surgery", abstract, pmid=pmid))
        assert isinstance(pair, Pair)
        assert pair.kind == "paraphrase"
        assert folded(pair.anchor) != folded(pair.positive)
        found.add(pair.anchor in abstract)
    assert found == {True, False}
    assert paraphrased(Pair("Asyncio", "Nothing to be said here.")) == "no words to replace"


def test_the_rules_do_not_make_the_contrast_suite() -> None:
    """The suite must not measure whether a model has seen these very replacements.

    What overlap there is are names of medicines (paracetamol, acetaminophen): facts, not wording.
    """
    suite = read_contrast_suite()
    same = sum(
        folded(triple.paraphrase)
        in {folded(paraphrase(triple.sentence, seed=seed) or "") for seed in range(10)}
        for triple in suite.triples
    )
    assert same < 0.08 * len(suite.triples)


def test_an_opening_circumstance_moves_to_the_end_for_half_of_the_seeds() -> None:
    text = "In children with renal failure, we observed a higher mortality."
    made = [paraphrase(text, seed=seed) or "" for seed in range(60)]
    moved = [other for other in made if other.startswith("We observed")]
    assert 15 < len(moved) < 45
    assert all(other.endswith(("renal failure.", "kidney failure.")) for other in moved)


@pytest.mark.parametrize(
    "text",
    [
        "In children, adults, and the elderly renal failure was common.",  # an enumeration
        "Renal failure, in children, was common.",
        "In children with renal failure, mortality: the higher the worse.",
    ],
)
def test_a_circumstance_that_is_no_single_one_stays(text: str) -> None:
    for seed in range(20):
        other = paraphrase(text, seed=seed)
        assert other is not None
        assert other.split()[0] in ("In", "Renal", "Kidney")


def test_sentences_on_whose_words_the_meaning_hangs_come_first() -> None:
    abstract = (
        "Outcomes after surgery were similar in the groups that we studied here. "
        "Renal function of the left kidney was better after surgery than before it. "
        "Prevalence of complications after surgery was low in all of the groups."
    )
    anchors = {
        pair.anchor
        for pmid in range(1, 31)
        if isinstance(pair := paraphrased(Pair("A title after surgery", abstract, pmid=pmid)), Pair)
    }
    assert anchors == {
        "A title after surgery",
        "Renal function of the left kidney was better after surgery than before it.",
    }
