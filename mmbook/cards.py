"""A data card in MyST Markdown, rendered from a packaged manifest: what the page `data_cards` of
the book shows."""

import re
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from mmtutor.files.manifest import Manifest


def card_markdown(data: Manifest) -> str:
    """Return the data card of a set: a heading with the target `card-<name>`, a table of facts and
    one of fields."""
    cards = Environment(undefined=StrictUndefined)
    cards.filters |= {"text": text, "line": lambda t: " ".join(t.replace("|", "\\|").split())}
    template = (Path(__file__).parent / "ext" / "card.md.j2").read_text(encoding="utf-8")
    return cards.from_string(template).render(data=data)


def text(given: str) -> str:
    """Return plain text as Markdown that shows it: `<guid>` is no tag, `i_d` no emphasis, an
    address is a link."""
    escaped = re.sub(
        r"([\\*_`\[\]$])",
        r"\\\1",
        given.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"),
    )
    # in an address, what was escaped is as it was
    return re.sub(
        r"https?://\S*[^\s.,;)]", lambda link: re.sub(r"\\(.)", r"\1", f"<{link.group()}>"), escaped
    )
