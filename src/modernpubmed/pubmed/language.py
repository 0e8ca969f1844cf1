"""Which texts are probably not English: a rule of thumb, on whole columns at once.

Two signs: letters of scripts that English is not written in (Greek letters do not count, medicine
is full of them), and small words of Spanish, Portuguese, French, German and Italian where English
has its own. Each is counted in the text, so one foreign name or one Latin term is no sign. A rule
of thumb can be wrong both ways; it finds what was put in the wrong place in bulk.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_SCRIPTS = (
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Cyrillic}\p{Arabic}\p{Hebrew}\p{Thai}"
    r"\p{Devanagari}\p{Georgian}\p{Armenian}]"
)
_ENGLISH = r"\b(?:the|of|and|was|were|with|that|from|this|for)\b"
_OTHERS = (
    r"\b(?:el|los|las|una|del|con|por|fueron|pacientes|da|dos|uma|foram|com|para|les|des|une|dans"
    r"|avec|chez|und|der|bei|wurden|mit|eine|von|della|degli|nel|sono|che)\b"
)
# This many letters, and this share of all; this many small words, and more than English ones.
_LETTERS, _SHARE, _WORDS = 10, 0.1, 8


def is_foreign(texts: pa.Array) -> NDArray[np.bool_]:
    """Whether each text is probably not English, (n,).

    >>> is_foreign(pa.array([
    ...     "Efecto de la dieta en los pacientes con diabetes: los pacientes con una dieta baja en "
    ...     "grasas fueron comparados con los pacientes del grupo control.",
    ...     "The los of con in patients from El Paso, with the α-helix.",
    ...     "肝臓の手術に関する研究です",
    ... ]))
    array([ True, False,  True])
    """
    letters = _count(texts, _SCRIPTS)
    script = (letters >= _LETTERS) & (letters >= _SHARE * _numbers(pc.utf8_length(texts)))
    words = _count(texts, _OTHERS)
    # English words are only counted where there is a suspicion.
    suspects = np.flatnonzero((words >= _WORDS) & ~script)
    found: NDArray[np.bool_] = script
    found[suspects] = words[suspects] > _count(texts.take(pa.array(suspects)), _ENGLISH)
    return found


def _count(texts: pa.Array, pattern: str) -> NDArray[Any]:
    return _numbers(pc.count_substring_regex(texts, pattern, ignore_case=True))


def _numbers(counts: pa.Array) -> NDArray[Any]:
    numbers: NDArray[Any] = counts.fill_null(0).to_numpy(zero_copy_only=False)
    return numbers
