"""The report for a person: one HTML file that asks no other file and no host, with its figures
inside."""

import base64
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

HERE = Path(__file__).parent
SHOWN = 100
"""Faulty rows that the page lists; of the rest it tells the number."""


def page(report: dict) -> str:
    """Return a training report as an HTML page, readable in light and dark, on a phone and on
    paper."""
    pages = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined)
    data, classes = report["data"], report["per_class"]["classes"]
    methods = report["methods"].values()
    scores = [f"{m['name']} {m['macro_f1']['value']:.2f}" for m in methods]
    faults = report["problems"]["first"][:SHOWN]
    return pages.get_template("report_page.html").render(
        report,
        style=Markup((HERE / "report_page.css").read_text(encoding="utf-8")),
        figure=base64.b64encode(_methods_png(report)).decode(),
        figure_text=f"Macro-F1 of each method with its interval: {', '.join(scores)}.",
        scores=[_score_row(m) for m in methods],
        confusion_header=["", *(f"said {name}" for name in classes)],
        confusion=[
            [f"truly {name}", *row]
            for name, row in zip(classes, report["per_class"]["confusion"], strict=True)
        ],
        class_sizes=[(name, f"{n:,}") for name, n in data["classes"].items()],
        odd_lines=_odd_lines(data),
        faults=[(p["row"], p["column"], p["kind"], p["detail"]) for p in faults],
    )


def _score_row(method: dict) -> tuple[str, ...]:
    low, high = method["macro_f1"]["interval"]
    f1, ece, loss = method["macro_f1"]["value"], method["ece"], method["log_loss"]
    return method["name"], f"{f1:.3f}", f"{low:.3f} to {high:.3f}", f"{ece:.3f}", f"{loss:.3f}"


def _odd_lines(data: dict) -> str:
    """Say how many lines were read as something other than UTF-8, and where that began; "" for
    none."""
    first = data["first_line_of_other_encodings"]
    return ", ".join(
        f"{n:,} as {name}" + (f" (first: line {first[name]})" if name in first else "")
        for name, n in data["encodings"].items()
        if not name.startswith("utf-8")
    )


def _methods_png(report: dict) -> bytes:
    import matplotlib
    from matplotlib.figure import Figure

    from mmtutor.plotting import COLOURS, dot_interval, to_png, use_style

    rows, colours = {}, {}
    for key, m in report["methods"].items():
        rows[m["name"]] = (m["macro_f1"]["value"], *m["macro_f1"]["interval"])
        colours[m["name"]] = COLOURS.get(key, COLOURS["fusion"])
    with matplotlib.rc_context():
        use_style()
        figure = Figure(figsize=(7, 0.6 * len(rows) + 1.1))
        ax = figure.subplots()
        dot_interval(ax, rows, colours)
        ax.set_xlabel("macro-F1")
        return to_png(figure)
