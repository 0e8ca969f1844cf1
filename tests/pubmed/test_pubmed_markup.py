import pytest
from lxml import etree

from modernpubmed.pubmed.markup import render, render_math


def rendered(inner):
    return render(etree.fromstring(f"<ArticleTitle>{inner}</ArticleTitle>"))


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        # words and formulas stay whole
        ("Expression of<i>TP53</i>in liver", "Expression ofTP53in liver"),
        ("<i>Kras</i><b>G12D</b>-driven <u>tumours</u>", "KrasG12D-driven tumours"),
        ("CO<sub>2</sub> and H<sub>2</sub>O", "CO2 and H2O"),
        ("<sup>18</sup>F, [<sup>11</sup>C]choline", "18F, [11C]choline"),
        ("Ca<sup>2+</sup>, CD4<sup>+</sup>, kg/m<sup>2</sup>", "Ca2+, CD4+, kg/m2"),
        ("IC<sub>50</sub>, <i>T</i><sub>max</sub>", "IC50, Tmax"),
        ("the 5<sup>th</sup> day", "the 5th day"),
        # digits never run together into another number
        ("10<sup>6</sup> cells", "10^6 cells"),
        ("10<sup>-6</sup> or 10<sup>−6</sup> M", "10^-6 or 10^−6 M"),
        ("SO<sub>4</sub><sup>2-</sup>", "SO4^2-"),
        ("10<sup><i>6</i></sup>", "10^6"),
        ("(<i>x</i> + 1)<sup>2</sup>", "(x + 1)^2"),
        ("101<sub>2</sub>", "101_2"),
        # lines and comments of the file
        ("  A\n      title\t<i>in</i>\r\n two   lines ", "A title in two lines"),
        ("be<!-- note -->fore and a<?pi x?>fter", "before and after"),
        ("5\u00a0mg, 7\u2009%", "5\u00a0mg, 7\u2009%"),
        ("α &lt; β &amp; γ", "α < β & γ"),
        ("<DispFormula>E = mc<sup>2</sup></DispFormula>", "E = mc2"),
        ("", ""),
    ],
)
def test_inline_markup(markup, text):
    assert rendered(markup) == text


def test_entities_are_neither_expanded_nor_lost():
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    own = '<!DOCTYPE t [<!ENTITY own "expanded">]><t>A &own; b</t>'
    assert render(etree.fromstring(own, parser)) == "A &own; b"
    named = '<!DOCTYPE t SYSTEM "nlm.dtd"><t>TNF-&alpha; &le; 1</t>'
    assert render(etree.fromstring(named, parser)) == "TNF-α ≤ 1"


MML = "http://www.w3.org/1998/Math/MathML"


@pytest.mark.parametrize(
    ("mathml", "text"),
    [
        (
            "<msubsup><mrow><mi>η</mi></mrow><mi>p</mi><mn>2</mn></msubsup><mo>=</mo><mn>0.75</mn>",
            "ηp^2 = 0.75",
        ),
        ("<msup><mi>x</mi><mn>2</mn></msup>", "x^2"),
        ("<msup><mn>10</mn><mrow><mo>-</mo><mn>6</mn></mrow></msup>", "10^-6"),
        ("<msup><mi>e</mi><mrow><mi>a</mi><mo>+</mo><mi>b</mi></mrow></msup>", "e^(a + b)"),
        ("<msup><mi>Ca</mi><mrow><mn>2</mn><mo>+</mo></mrow></msup>", "Ca^2+"),
        ("<msup><mrow/><mn>18</mn></msup><mi>F</mi>", "18F"),
        ("<msup><mi>f</mi><mo>′</mo></msup>", "f′"),
        ("<msub><mi>CO</mi><mn>2</mn></msub>", "CO2"),
        ("<msub><mi>x</mi><mrow><mi>i</mi><mo>,</mo><mi>j</mi></mrow></msub>", "x_(i,j)"),
        ("<mfrac><mi>a</mi><mi>b</mi></mfrac>", "a/b"),
        (
            "<mfrac><mrow><mi>a</mi><mo>+</mo><mn>1</mn></mrow><mrow><mn>2</mn><mi>n</mi></mrow></mfrac>",
            "(a + 1)/2n",
        ),
        ("<msqrt><mi>a</mi><mo>+</mo><mi>b</mi></msqrt>", "√(a + b)"),
        ("<mroot><mi>x</mi><mn>3</mn></mroot>", "x^(1/3)"),
        ("<mover><mi>x</mi><mo>¯</mo></mover>", "x\u0304"),
        (
            "<munderover><mo>∑</mo><mrow><mi>i</mi><mo>=</mo><mn>1</mn></mrow><mi>n</mi></munderover>",
            "∑_(i = 1)^n",
        ),
        (
            "<mtable><mtr><mtd><mi>a</mi></mtd><mtd><mi>b</mi></mtd></mtr>"
            "<mtr><mtd><mi>c</mi></mtd><mtd><mi>d</mi></mtd></mtr></mtable>",
            "[a, b; c, d]",
        ),
        ("<mfenced><mi>a</mi><mi>b</mi></mfenced>", "(a, b)"),
        ("<mo>-</mo><mi>x</mi><mo>-</mo><mn>1</mn>", "-x - 1"),
        ("<mi>p</mi><mo>&lt;</mo><mo>-</mo><mn>3</mn>", "p < -3"),
        ("<mi>sin</mi><mi>x</mi>", "sin x"),
        ("<mi>f</mi><mo>\u2061</mo><mi>x</mi>", "fx"),
        ("<mtext>mean ± SD</mtext>", "mean ± SD"),
        ("<mmultiscripts><mi>F</mi><mprescripts/><none/><mn>18</mn></mmultiscripts>", "18F"),
        (
            "<semantics><mi>x</mi><annotation encoding='TeX'>\\bar x</annotation></semantics>",
            "x",
        ),
        ("<mnonsense><mi>a</mi><mi>b</mi></mnonsense>", "ab"),
        ("<mfrac><mi>a</mi></mfrac>", "a"),
    ],
)
def test_mathml(mathml, text):
    assert render_math(etree.fromstring(f"<math xmlns='{MML}'>{mathml}</math>")) == text
    # the same inside a sentence, with NLM's prefix and white space between all elements
    prefixed = mathml.replace("</", "\0").replace("<", "<mml:").replace("\0", "</mml:")
    spaced = prefixed.replace("><", ">\n  <")
    inner = f"so <mml:math xmlns:mml='{MML}'>\n {spaced} </mml:math>, <i>p</i>"
    assert rendered(inner) == f"so {text}, p"


def test_empty_formula_shows_its_alternative_text():
    assert render_math(etree.fromstring("<math alttext='x bar'><mphantom/></math>")) == "x bar"
