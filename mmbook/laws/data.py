"""Laws about downloaded data: what a notebook needs it declares, and what may not be shown is not
shown."""

from __future__ import annotations

import ast
import base64
import binascii
import functools
import io

from nbformat import NotebookNode

from mmbook.laws.cells import called_name, images, numbered, texts, tree
from mmtutor.files import store

# Calls that put a raw picture, or something that looks like one, on the page.
SHOWING = {
    "imshow",
    "matshow",
    "figimage",
    "show_images",
    "thumbnail",
    "Image",
    "HTML",
    "Audio",
    "Video",
}
MIN_TEXT = 20  # characters; a shorter line of a set ("thank you") may well occur by chance
PHOTO_SHARE = 0.5


def named_sets(nb: NotebookNode) -> dict[str, int]:
    """Return set name → first cell whose code names it: as a string, as an imported module or as an
    attribute."""
    found: dict[str, int] = {}
    for place, cell in numbered(nb, "code"):
        for node in ast.walk(tree(cell)):
            names: list[object] = []
            if isinstance(node, ast.Constant):
                names = [node.value]
            elif isinstance(node, ast.Attribute):
                names = [node.attr]
            elif isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name.split(".")[-1] for alias in node.names]
                names += (node.module or "").split(".") if isinstance(node, ast.ImportFrom) else []
            for name in names:
                if isinstance(name, str) and name in store.names():
                    found.setdefault(name, place)
    return found


def needs_declared(nb: NotebookNode, name: str) -> list[str]:
    """metadata mmtutor.needs lists exactly the downloaded sets that the code names."""
    stated = nb.metadata.get("mmtutor", {}).get("needs", [])
    if not isinstance(stated, list) or not all(isinstance(s, str) for s in stated):
        return [f"{name}: metadata mmtutor.needs is {stated!r}, expected a list of set names"]
    used, known = named_sets(nb), store.names()
    problems = [
        f"{name}: needs the unknown set {s!r}; known: {', '.join(known)}"
        for s in stated
        if s not in known
    ]
    problems += [
        f"{name}: cell {place}: uses {s!r}, which metadata mmtutor.needs does not list"
        for s, place in used.items()
        if s not in stated
    ]
    problems += [
        f"{name}: lists {s!r} as needed, but no code names it"
        for s in stated
        if s in known and s not in used
    ]
    return problems


@functools.cache
def raw_texts(name: str) -> tuple[str, ...]:
    """Return the lines, white space normalised, of a set's text files on this machine; () where the
    set is absent."""
    folder = store.locate(store.manifest(name))
    if folder is None:
        return ()
    lines: set[str] = set()
    for path in folder.rglob("*.txt"):
        for line in path.read_text(encoding="utf-8", errors="ignore").splitlines():
            lines.add(" ".join(line.split()))
    return tuple(sorted(line for line in lines if len(line) >= MIN_TEXT))


def looks_like_a_photograph(content: str) -> bool:
    """Return whether a base64 picture has no flat areas: fewer than half of its neighbouring pixels
    are equal.

    In a chart nearly all are. What cannot be decoded counts as a photograph.
    """
    import numpy as np  # here, so that the site, which looks at no pixel, is built without these two
    from PIL import Image

    try:
        pixels = np.asarray(
            Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB")
        ).astype(int)
    except (OSError, binascii.Error, ValueError):
        return True
    if pixels.shape[1] < 2:
        return True
    return bool((pixels[:, 1:] == pixels[:, :-1]).all(axis=2).mean() < PHOTO_SHARE)


def nothing_forbidden_shown(nb: NotebookNode, name: str) -> list[str]:
    """A notebook that uses a set marked do_not_display stores charts and numbers of it only, no
    picture and no text.

    Checked: no call that shows a raw picture, no JPEG, no PNG without flat areas, and, where the
    set is on this machine, none of its texts in any output.
    """
    used = set(named_sets(nb)) | set(nb.metadata.get("mmtutor", {}).get("needs", []))
    forbidden = sorted(s for s in used if s in store.names() and store.manifest(s).do_not_display)
    if not forbidden:
        return []
    problems = []
    for place, cell in numbered(nb, "code"):
        where = f"{name}: cell {place}: {', '.join(forbidden)} may not be displayed, but"
        calls = sorted({called_name(node) for node in ast.walk(tree(cell))} & SHOWING)
        problems += [f"{where} the code calls {call}" for call in calls]
        for mime, content in images(cell):
            if "jpeg" in mime or ("png" in mime and looks_like_a_photograph(content)):
                problems.append(f"{where} the output holds a photograph")
        shown = " ".join(
            " ".join(text.split()) for output in cell.outputs for text in texts(output)
        )
        for s in forbidden:
            if any(line in shown for line in raw_texts(s)):
                problems.append(f"{where} the output holds one of the texts of {s}")
    return problems
