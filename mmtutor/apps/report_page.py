"""The report for a person: one HTML file that asks no other file and no host, with its figures
inside."""

from __future__ import annotations

import base64
import html
from pathlib import Path

STYLE = (Path(__file__).parent / "report_page.css").read_text(encoding="utf-8")
TEMPLATE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><link rel="icon" href="data:,"><style>{style}</style></head>
<body><main>
{body}
</main></body></html>
"""


def page(report: dict) -> str:
    """Return a training report as an HTML page, readable in light and dark, on a phone and on
    paper."""
    data = report["data"]
    parts = [
        "<h1>Sentiment model: training report</h1>",
        "".join(f"<p>{html.escape(sentence)}</p>" for sentence in report["words"]),
        "<h2>Ways to read a post, compared</h2>",
        _figure(_methods_png(report), _methods_alt(report)),
        _methods_table(report),
        (
            "<p>Macro-F1 is the mean over classes of F1; each score is from posts that took no part"
            " in training or choosing. Intervals (95 %) carry the Nadeau–Bengio correction for"
            " overlapping folds. ECE is the mean gap between confidence and accuracy; log loss"
            " punishes sure mistakes.</p>"
        ),
        f"<h2>What {html.escape(report['methods'][report['winner']]['name'])} confuses</h2>",
        _confusion_table(report),
        "<h2>The posts</h2>",
        _table(
            ("class", "posts"),
            [(name, f"{n:,}") for name, n in data["classes"].items()],
            "Posts by class",
        ),
        (
            f"<p>{data['posts']:,} usable posts of {html.escape(data['table'])},"
            f" {data['with_text']:,} with a text, {data['with_image']:,} with a picture, in"
            f" {data['groups']:,} groups of reposts or as the table groups them; the methods were"
            f" compared on {data['compared_on']:,}.</p>"
        ),
        _encodings(data),
        _problems(report["problems"]),
        "<h2>How to read its answers</h2>",
        (
            f"<p>{DECISIONS[report['decision']]} Probabilities are calibrated to the class shares"
            " above; where other posts have other shares, they are off. Contributions are Shapley"
            " values: what the text and the picture each added to the probability of the label,"
            " over the share of its class.</p>"
        ),
    ]
    return TEMPLATE.format(
        title="Sentiment model: training report", style=STYLE, body="\n".join(parts)
    )


DECISIONS = {
    "balanced": (
        "The label is the class for which a post speaks most beyond that class's share, so that"
        " rare classes count as much as common ones; it need not be the one of the highest"
        " probability."
    ),
    "likeliest": "The label is the class of the highest probability.",
}


def _methods_table(report: dict) -> str:
    rows = []
    for m in report["methods"].values():
        low, high = m["macro_f1"]["interval"]
        rows.append(
            (
                m["name"],
                f"{m['macro_f1']['value']:.3f}",
                f"{low:.3f} to {high:.3f}",
                f"{m['ece']:.3f}",
                f"{m['log_loss']:.3f}",
            )
        )
    return _table(
        ("method", "macro-F1", "95 % interval", "ECE", "log loss"), rows, "Scores by method"
    )


def _confusion_table(report: dict) -> str:
    names = list(report["per_class"]["classes"])
    rows = [
        (f"truly {name}", *map(str, row))
        for name, row in zip(names, report["per_class"]["confusion"], strict=True)
    ]
    return _table(
        ("", *(f"said {name}" for name in names)),
        rows,
        "Counts of true and said classes, one repeat",
    )


def _encodings(data: dict) -> str:
    odd = {name: n for name, n in data["encodings"].items() if not name.startswith("utf-8")}
    if not odd:
        return ""
    first = data["first_line_of_other_encodings"]
    told = ", ".join(
        f"{n:,} as {name}" + (f" (first: line {first[name]})" if name in first else "")
        for name, n in odd.items()
    )
    return (
        f"<p>Lines that are no UTF-8 were read {html.escape(told)}. If that is wrong, say"
        " --encoding.</p>"
    )


def _problems(problems: dict) -> str:
    if not problems["total"]:
        return "<p>No row was faulty.</p>"
    rows = [(str(p["row"]), p["column"], p["kind"], p["detail"]) for p in problems["first"][:100]]
    more = problems["total"] - len(rows)
    note = f"<p>… and {more:,} more.</p>" if more else ""
    head = f"<h2>{problems['total']:,} faulty rows were left out</h2>"
    return head + _table(("row", "column", "problem", "detail"), rows, "Faulty rows") + note


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]], caption: str) -> str:
    head = "".join(
        f'<th scope="col">{html.escape(name)}</th>' if name else "<td></td>" for name in header
    )
    body = "".join(
        f'<tr><th scope="row">{html.escape(row[0])}</th>'
        + "".join(f"<td>{html.escape(c)}</td>" for c in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        '<div class="wide" tabindex="0" role="group"'
        f' aria-label="{html.escape(caption)}"><table><caption>'
        f"{html.escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _figure(png: bytes, alt: str) -> str:
    return (
        f'<img alt="{html.escape(alt)}"'
        f' src="data:image/png;base64,{base64.b64encode(png).decode()}">'
    )


def _methods_alt(report: dict) -> str:
    told = [f"{m['name']} {m['macro_f1']['value']:.2f}" for m in report["methods"].values()]
    return "Macro-F1 of each method with its interval: " + ", ".join(told) + "."


def _methods_png(report: dict) -> bytes:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from mmtutor.plotting import COLOURS, dot_interval, to_png, use_style

    with matplotlib.rc_context():
        use_style()
        figure = Figure(figsize=(7, 0.6 * len(report["methods"]) + 1.1))
        FigureCanvasAgg(figure)
        ax = figure.subplots()
        rows = {
            m["name"]: (m["macro_f1"]["value"], *m["macro_f1"]["interval"])
            for m in report["methods"].values()
        }
        colours = {
            m["name"]: COLOURS.get(key, COLOURS["fusion"]) for key, m in report["methods"].items()
        }
        dot_interval(ax, rows, colours)
        ax.set_xlabel("macro-F1")
        return to_png(figure)
