"""Draws text from standard input as a picture of a terminal, for the README.

``modernpubmed demo | python docs/picture.py docs/demo.svg``
"""

from __future__ import annotations

import sys
from pathlib import Path
from xml.sax.saxutils import escape

# Of the usual monospace fonts, 0.6 em is the width of a character.
SIZE, LEADING, MARGIN = 14, 19, 16


def draw(text: str) -> str:
    """The SVG of a dark terminal that shows ``text``."""
    lines = text.rstrip().splitlines()
    width = round(max(map(len, lines)) * SIZE * 0.6) + 2 * MARGIN
    height = len(lines) * LEADING + 2 * MARGIN
    rows = "\n".join(
        f'<text x="{MARGIN}" y="{MARGIN + (number + 0.75) * LEADING:.0f}" xml:space="preserve" '
        # Stated, so that a viewer's own font cannot spoil the columns.
        f'textLength="{len(line) * SIZE * 0.6:.1f}" lengthAdjust="spacingAndGlyphs">'
        f"{escape(line)}</text>"
        for number, line in enumerate(lines)
        if line.strip()
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}">\n'
        f'<rect width="100%" height="100%" rx="8" fill="#1b1f27"/>\n'
        f'<g fill="#d8dee9" font-size="{SIZE}" font-family="Menlo, Consolas, '
        f"'DejaVu Sans Mono', monospace\">\n{rows}\n</g>\n</svg>\n"
    )


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(draw(sys.stdin.read()), encoding="utf-8")
