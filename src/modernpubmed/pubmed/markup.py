"""Titles and abstracts with inline markup, as one line of plain text.

Text nodes are joined as they stand: separators would break words ("Expression of<i>TP53</i>in",
"CO 2"). Runs of XML white space (the file's own line breaks and indents) become one space; other
Unicode spaces are the author's and stay. Italics, bold, underline and the like vanish.

Superscripts and subscripts are written plainly, as people type them: CO2, 18F, Ca2+, CD4+, m2,
IC50. Only where digits would run together into another number is there a mark: ``10^6``,
``10^-6``, ``SO4^2-``, ``(x + 1)^2``; ``10_2`` below. Unicode's raised digits are not used,
because tokenizers fold them (NFKC) and ``10⁶`` would reach the encoder as ``106``.

MathML becomes linear text: ``a/b``, ``x^2``, ``ηp^2 = 0.75``, ``√(a + b)``, ``∑_(i = 1)^n``,
``[a, b; c, d]``. Parentheses are put around a part that is more than one word. Where nothing
comes out (an empty formula), its ``alttext`` is used.

Given up: telling a footnote's raised number from an exponent ("cohort<sup>2</sup>" reads
"cohort2"), and MathML's exact layout.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence

from lxml import etree

_EXPONENT = re.compile(r"[-−–+]?\d")
_SIMPLE = re.compile(r"[-−–+]?[\w.]*[-−–+′*]?")
_INVISIBLE = str.maketrans("", "", "\u2061\u2062\u2063\u2064\u200b")
_RELATIONS = frozenset("=<>≤≥≠≈≃≅≡∼~±∓×÷→←↔⇒⇔∈∉⊂⊆∪∩≪≫∝")
_SIGNS = frozenset("+-−–")
# NLM's own inline elements, which need no look at a namespace.
_COMMON = frozenset(("i", "b", "u", "sup", "sub"))
# What MathML draws over a letter, as the combining character Unicode has for it.
_ACCENTS = {
    **dict.fromkeys("¯‾ˉ_―", "\u0304"),
    **dict.fromkeys("^ˆ", "\u0302"),
    **dict.fromkeys("~˜∼", "\u0303"),
    **dict.fromkeys("→⃗", "\u20d7"),
    **dict.fromkeys("˙.", "\u0307"),
    "¨": "\u0308",
}


def render(element: etree._Element) -> str:
    """The text of an element such as ``ArticleTitle`` or ``AbstractText``, on one line.

    >>> title = "<t><sup>18</sup>F and CO<sub>2</sub> in 10<sup>6</sup> <i>TP53</i>-null cells</t>"
    >>> render(etree.fromstring(title))
    '18F and CO2 in 10^6 TP53-null cells'
    """
    text = _inline(element) if len(element) else element.text or ""
    if "\n" in text or "  " in text or "\t" in text or "\r" in text:
        text = _squeezed(text)
    return text.strip(" ")


def render_math(element: etree._Element) -> str:
    """A MathML element as linear text.

    >>> render_math(etree.fromstring(
    ...     "<math><mfrac><mn>1</mn><mrow><mi>n</mi><mo>-</mo><mn>1</mn></mrow></mfrac></math>"))
    '1/(n - 1)'
    """
    text = _squeezed(_math(element)).strip()
    return text or (element.get("alttext") or "").strip()


def _squeezed(text: str) -> str:
    # A substitution by pattern takes twenty times the text's size while it is at work.
    for space in "\t\r\n":
        text = text.replace(space, " ")
    while "  " in text:
        text = text.replace("  ", " ")
    return text


def _inline(element: etree._Element) -> str:
    text = element.text or ""
    for child in element:
        tag = child.tag
        name = tag if tag in _COMMON else _name(child)
        if name == "math":
            text += render_math(child)
        elif name:
            inner = _inline(child) if len(child) else child.text or ""
            text += _script(text[-1:], inner, name) if name in ("sup", "sub") else inner
        else:
            text += _not_an_element(child)
        if child.tail:
            text += child.tail
    return text


def _script(before: str, script: str, name: str) -> str:
    if name == "sup" and (before.isdigit() or before in (")", "]")) and _EXPONENT.match(script):
        return f"^{script}"
    if name == "sub" and before.isdigit() and script[:1].isdigit():
        return f"_{script}"
    return script


def _name(element: etree._Element) -> str:
    """The local name; empty for comments, processing instructions and entities."""
    tag = element.tag
    return tag.rpartition("}")[2].rpartition(":")[2] if isinstance(tag, str) else ""


def _not_an_element(node: etree._Element) -> str:
    # Entities are not resolved by the parser (they could be bombs). The named ones of HTML and
    # MathML are harmless; any other stays as written, so nothing is lost unseen.
    return html.unescape(node.text or "") if node.tag is etree.Entity else ""


def _math(element: etree._Element) -> str:
    name = _name(element)
    if name in ("mi", "mn", "mo", "mtext", "ms"):
        return _inline(element).translate(_INVISIBLE).strip("\t\r\n ")
    parts = [child for child in element if _name(child)]
    match name, parts:
        case "mfrac", [top, bottom]:
            return f"{_grouped(top)}/{_grouped(bottom)}"
        case "msup", [base, above]:
            return _raised(_math(base), _math(above))
        case "msub", [base, below]:
            return _lowered(_math(base), _math(below))
        case "msubsup", [base, below, above]:
            return _raised(_lowered(_math(base), _math(below)), _math(above))
        case "mover", [base, above]:
            return _over(_math(base), _math(above))
        case "munder", [base, below]:
            return f"{_math(base)}_{_group(_math(below))}"
        case "munderover", [base, below, above]:
            return f"{_math(base)}_{_group(_math(below))}^{_group(_math(above))}"
        case "msqrt", _:
            return f"√{_group(_row(parts))}"
        case "mroot", [base, degree]:
            return f"{_grouped(base)}^(1/{_grouped(degree)})"
        case "mtable", _:
            return f"[{'; '.join(_math(row) for row in parts)}]"
        case (("mtr" | "mlabeledtr"), _):
            return ", ".join(_math(cell) for cell in parts)
        case "mfenced", _:
            inner = ", ".join(_math(part) for part in parts)
            return f"{element.get('open', '(')}{inner}{element.get('close', ')')}"
        case "semantics", [shown, *_]:
            return _math(shown)
        case "mmultiscripts", [base, *scripts]:
            return _multiscripts(base, scripts)
        case "mspace", _:
            return " "
        case (("mphantom" | "none" | "mprescripts" | "annotation" | "annotation-xml"), _):
            return ""
        case _:
            return _row(parts) if parts else (element.text or "").strip()


def _row(parts: Sequence[etree._Element]) -> str:
    text = ""
    word = False
    for part in parts:
        piece = _math(part)
        if not piece:
            continue
        if _name(part) == "mo":
            # A sign that opens the row belongs to what follows, one that ends it to what precedes.
            before = text.rstrip()[-1:]
            unary = not before or before in "([," or before in _RELATIONS
            spaced = piece in _RELATIONS or (piece in _SIGNS and not unary)
            if spaced and text and part is not parts[-1]:
                piece = f" {piece} "
        elif word and piece[0].isalnum():
            text += " "  # a function's name and its argument: "sin x", not "sinx"
        word = _name(part) == "mi" and len(piece) > 1
        text += piece
    return text


def _group(text: str) -> str:
    return text if _SIMPLE.fullmatch(text) else f"({text})"


def _grouped(element: etree._Element) -> str:
    return _group(_math(element))


def _raised(base: str, above: str) -> str:
    # No base: an isotope's mass number before its symbol, 18F.
    if not base or above in ("′", "″", "*", "∗", "+", "-", "−"):
        return base + above
    return f"{base}^{_group(above)}"


def _lowered(base: str, below: str) -> str:
    if below.isalnum() and not (base[-1:].isdigit() and below[0].isdigit()):
        return base + below
    return f"{base}_{_group(below)}" if below else base


def _over(base: str, above: str) -> str:
    accent = _ACCENTS.get(above)
    if accent is not None and len(base) == 1:
        return base + accent
    return f"{base}^{_group(above)}" if above else base


def _multiscripts(base: etree._Element, scripts: Sequence[etree._Element]) -> str:
    split = next((i for i, s in enumerate(scripts) if _name(s) == "mprescripts"), len(scripts))
    before = "".join(
        _math(above) + _math(below) for below, above in _pairs_of(scripts[split + 1 :])
    )
    text = _math(base)
    for below, above in _pairs_of(scripts[:split]):
        text = _lowered(text, _math(below))
        if raised := _math(above):
            text = _raised(text, raised)
    return before + text


def _pairs_of(
    scripts: Sequence[etree._Element],
) -> Iterator[tuple[etree._Element, etree._Element]]:
    return zip(scripts[::2], scripts[1::2], strict=False)
