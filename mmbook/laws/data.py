"""Laws about downloaded data: what is needed is declared, what may not be shown is not shown."""

import ast
import base64
import functools
import io
from collections.abc import Iterator

from mmbook.reading import Finding, Notebook, called_name, found, images, texts, tree
from mmtutor.files import store

# Calls that put a raw picture, or something that looks like one, on the page.
SHOWING = {
    *("imshow", "matshow", "figimage", "show_images", "thumbnail"),
    *("Image", "HTML", "Audio", "Video"),
}
MIN_TEXT = 20  # characters; a shorter line of a set ("thank you") may well occur by chance
PHOTO_SHARE = 0.5


def names_in(node: ast.AST) -> list[str]:
    """Return the names by which a node may mean a data set: a string, an attribute, an import."""
    match node:
        case ast.Constant(value=str(text)) | ast.Attribute(attr=text):
            return [text]
        case ast.alias(name=path) | ast.ImportFrom(module=str(path)):
            return path.split(".")
    return []


def named_sets(page: Notebook) -> dict[str, int]:
    """Return set name → first cell whose code names it."""
    first: dict[str, int] = {}
    for place, cell in page.cells("code"):
        named = {name for node in ast.walk(tree(cell.source)) for name in names_in(node)}
        first = dict.fromkeys(sorted(named & set(store.names())), place) | first
    return first


def needs_declared(page: Notebook) -> Iterator[Finding]:
    """metadata mmtutor.needs lists exactly the downloaded sets that the code names."""
    stated = page.own.get("needs", [])
    if not isinstance(stated, list) or not all(isinstance(name, str) for name in stated):
        yield Finding(f"metadata mmtutor.needs is {stated!r}, expected a list of set names")
        return
    used, known = named_sets(page), store.names()
    for name in stated:
        yield from found(
            {
                f"needs the unknown set {name!r}; known: {', '.join(known)}": name not in known,
                f"lists {name!r} as needed, but no code names it": (
                    name in known and name not in used
                ),
            }
        )
    yield from (
        Finding(f"uses {name!r}, which metadata mmtutor.needs does not list", place)
        for name, place in used.items()
        if name not in stated
    )


@functools.cache
def raw_texts(name: str) -> tuple[str, ...]:
    """Return the lines, white space normalised, of a set's text files on this machine; () where the
    set is absent."""
    folder = store.locate(store.manifest(name))
    if folder is None:
        return ()
    lines = {
        " ".join(line.split())
        for path in folder.rglob("*.txt")
        for line in path.read_text(encoding="utf-8", errors="ignore").splitlines()
    }
    return tuple(sorted(line for line in lines if len(line) >= MIN_TEXT))


def looks_like_a_photograph(content: str) -> bool:
    """Return whether a base64 picture has no flat areas: fewer than half of its neighbouring pixels
    are equal.

    In a chart nearly all are. What cannot be decoded counts as a photograph.
    """
    # Here, so that the site, which looks at no pixel, is built without these two
    import numpy as np
    from PIL import Image

    try:
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB"))
    except (OSError, ValueError):
        return True
    flat = (pixels[:, 1:] == pixels[:, :-1]).all(axis=2)
    return not flat.size or bool(flat.mean() < PHOTO_SHARE)


def nothing_forbidden_shown(page: Notebook) -> Iterator[Finding]:
    """A notebook that uses a set marked do_not_display stores charts and numbers of it only, no
    picture and no text.

    Checked: no call that shows a raw picture, no JPEG, no PNG without flat areas, and, where the
    set is on this machine, none of its texts in any output.
    """
    used = {*named_sets(page), *page.own.get("needs", [])} & set(store.names())
    forbidden = sorted(name for name in used if store.manifest(name).do_not_display)
    but = f"{', '.join(forbidden)} may not be displayed, but"
    for place, cell in page.cells("code") if forbidden else ():
        calls = {called_name(node) for node in ast.walk(tree(cell.source))}
        shown = " ".join(w for output in cell.outputs for t in texts(output) for w in t.split())
        photographs = (
            "jpeg" in mime or ("png" in mime and looks_like_a_photograph(content))
            for mime, content in images(cell)
        )
        copied = {name: any(line in shown for line in raw_texts(name)) for name in forbidden}
        yield from found(
            {
                **{f"{but} the code calls {call}": call in calls for call in sorted(SHOWING)},
                f"{but} the output holds a photograph": any(photographs),
                **{f"{but} the output holds one of the texts of {n}": copied[n] for n in copied},
            },
            place,
        )
