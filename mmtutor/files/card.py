"""A data card in MyST Markdown, rendered from a packaged manifest: what the page `data_cards` of
the book shows. Taught in chapter 1.
"""

import re

from mmtutor.files.manifest import Manifest

# What no manifest says in one place: what a sample consists of, and what is predicted from it.
_SAMPLE = {
    "oasis": (
        "photograph, human caption, machine caption",
        "valence and arousal, 1 to 7 (three classes by two cuts)",
    ),
    "fsdd": ("spoken digit", "digit 0 to 9; speaker"),
    "ham10000": ("dermatoscopic picture, patient record", "seven diagnoses; benign or malignant"),
    "kitti": ("camera picture, lidar points, calibration", "2D and 3D boxes"),
    "mvsa": ("picture, tweet", "sentiment: negative, neutral, positive"),
    "phone_drive": (
        "phone motion sensors, GPS, the car's own bus",
        "steering angle, speed, lateral acceleration",
    ),
}


def card_markdown(data: Manifest) -> str:
    """Return the data card of a set: a heading with the target `card-<name>`, a table of facts and
    one of fields."""
    rows = "\n".join(f"| {key} | {value} |" for key, value in _facts(data))
    fields = "\n".join(f"| `{field}` | {_cell(text)} |" for field, text in data.fields.items())
    rule = f"**How the subset was drawn.** {_text(data.subset_rule)}" if data.subset_rule else ""
    parts = [
        f"(card-{data.name})=\n## {_text(data.title)}",
        f"| fact | value |\n| --- | --- |\n{rows}",
        f"| field | meaning |\n| --- | --- |\n{fields}",
        f"**Notes.** {_text(data.notes)}",
        rule,
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _facts(data: Manifest) -> list[tuple[str, str]]:
    """Return the rows of the first table, each value ready for a Markdown cell."""
    modalities, target = _SAMPLE.get(data.name, ("see the fields", "see the fields"))
    return [
        ("name in `mmtutor`", f"`{data.name}`"),
        ("samples", str(data.n)),
        ("modalities", modalities),
        ("label", target),
        ("licence", _cell(data.licence)),
        ("commercial use", data.commercial),
        (
            "may be shown",
            "**no: measure on it, never show a sample**"
            if data.do_not_display
            else "single samples, source named",
        ),
        ("size", data.size),
        ("version", _cell(data.version)),
        (
            "source",
            "<br>".join(
                f"[{s.repo}](https://github.com/{s.repo}/tree/{s.commit}) at commit"
                f" `{s.commit[:12]}`"
                for s in data.sources
            ),
        ),
        ("citation", _cell(data.citation)),
    ]


def _cell(text: str) -> str:
    """Return text that can stand in a Markdown table: one line, bars escaped."""
    return _text(text).replace("|", "\\|").replace("\n", " ")


def _text(text: str) -> str:
    """Return plain text as Markdown that shows it: `<guid>` is no tag, `i_d` no emphasis, an
    address is a link."""
    text = re.sub(
        r"([\\*_`\[\]$])",
        r"\\\1",
        text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"),
    )
    # in an address, what was escaped is as it was
    return re.sub(
        r"https?://\S*[^\s.,;)]", lambda link: re.sub(r"\\(.)", r"\1", f"<{link.group()}>"), text
    )
