"""train, evaluate, predict: what `mmtutor sentiment` does, each callable from Python with the same
arguments."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from mmtutor.apps import folder
from mmtutor.apps.classifier import Answer, SentimentModel, train_final
from mmtutor.apps.faults import MAX_MEGABYTES, Faults, PostsUnusable, Problem
from mmtutor.apps.features import MODALITIES, Chunk, PostEncoder
from mmtutor.apps.posts import Columns, Post, PostTable
from mmtutor.apps.report_page import page
from mmtutor.apps.scores import figures
from mmtutor.apps.table import Grouping, read_table
from mmtutor.apps.training_report import training_report
from mmtutor.checks import require
from mmtutor.choosing.grouped import TooFewSamples
from mmtutor.choosing.nested import choose
from mmtutor.device import make_accelerator, one_thread


@dataclass(frozen=True)
class Options:
    """What the three commands share. images: the folder of pictures, None for the table's own
    folder.

    strict: stop at the first faulty post. cache: True for the usual feature cache, or a folder.
    """

    images: Path | str | None = None
    columns: Columns = field(default_factory=Columns)
    delimiter: str | None = None
    encoding: str | None = None
    strict: bool = False
    device: str | None = None
    cache: bool | Path | str = True
    max_megabytes: float = MAX_MEGABYTES
    progress: bool = True

    def table(self, posts: Path | str, *needed: str) -> PostTable:
        """Open a table that must have the columns `needed`."""
        return PostTable(Path(posts), self.columns, needed, self.delimiter, self.encoding)

    def encoder(self, posts: Path | str | None) -> PostEncoder:
        """Return the encoder of this table's posts."""
        images = self.images if self.images is not None or posts is None else Path(posts).parent
        return PostEncoder(images, self.device, self.cache, self.max_megabytes)


def train(
    posts: Path | str,
    out: Path | str,
    options: Options | None = None,
    *,
    splits: int = 5,
    repeats: int = 3,
    seed: int = 0,
    decision: str = "balanced",
    overwrite: bool = False,
    faults: Faults | None = None,
) -> dict:
    """Choose among text, image, early and late fusion, train the choice, write the model folder;
    return the report.

    Under several processes (torchrun) all take part and the first one writes. The same call on the
    same machine gives the same bytes; where features were encoded in other batches, as after an
    interruption, the last digits may differ.
    faults: where to note what is wrong with posts, as in `evaluate` and `predict`.
    Raises PostsUnusable, FileExistsError or what the encoders raise; then nothing was written.
    """
    options = options or Options()
    # first: it says which GPU this process has
    accelerator = make_accelerator(options.device, mixed=False)
    faults = Faults(options.strict) if faults is None else faults
    table, encoder = options.table(posts, "label"), options.encoder(posts)
    out = folder.check_free(out, overwrite)
    data = read_table(table, encoder, faults, options.progress)
    with one_thread():
        try:
            choice = choose(
                data,
                splits=splits,
                repeats=repeats,
                seed=seed,
                decision=decision,
                device=options.device,
                progress=options.progress,
            )
        except TooFewSamples as problem:
            raise PostsUnusable(
                f"the posts cannot be compared: {problem}. A group is a post with its reposts."
                " Label more, or say fewer --folds or another --seed"
            ) from problem
        model = train_final(data, choice, decision, options.device)
    report = training_report(
        data, choice, model, faults, table, splits=splits, repeats=repeats, seed=seed
    )
    if accelerator.is_main_process:
        folder.save(model, encoder, report, page(report), out, overwrite)
    accelerator.wait_for_everyone()
    return report


def evaluate(
    model_folder: Path | str,
    posts: Path | str,
    options: Options | None = None,
    faults: Faults | None = None,
) -> dict:
    """Return the model's scores on labelled posts, with intervals; see `scores.figures`, and
    "problems", "answered_by".

    Raises PostsUnusable where no post is left to judge on, ModelUnusable for a folder that is no
    whole model.
    """
    options = options or Options()
    faults = Faults(options.strict) if faults is None else faults
    table, encoder = options.table(posts, "label"), options.encoder(posts)
    model, _ = folder.load(model_folder, encoder)
    y, guess, probs, grouping, counts = [], [], [], Grouping(), {"text": 0, "image": 0, "both": 0}
    for chunk, answer in _answers(
        table.labelled(model.classes), encoder, model, faults, options, "evaluate"
    ):
        pictures = chunk.pictures
        for k, post in enumerate(chunk.kept):
            y.append(model.classes.index(post.label))
            grouping.add(post, pictures.get(k))
            counts["both" if post.text and post.image else "text" if post.text else "image"] += 1
        guess.append(answer.label.numpy())
        probs.append(answer.probabilities.numpy())
    require(
        y,
        f"{table.path.name} holds no post to judge on.\n{faults.summary() or 'It has no rows.'}",
        PostsUnusable,
    )
    result = figures(
        np.concatenate(guess),
        np.concatenate(probs),
        np.array(y),
        grouping.numbers(),
        len(model.classes),
    )
    return result | {
        "classes": list(model.classes),
        "posts_with": counts,
        "problems": faults.as_json(),
    }


def predict(
    model_folder: Path | str,
    posts: Path | str,
    options: Options | None = None,
    faults: Faults | None = None,
) -> Iterator[dict]:
    """Yield one answer per row of the table, in order; a faulty row's answer holds its problem
    instead.

    The first row is answered before the second part of the table is read: memory stays flat.
    """
    options = options or Options()
    faults = Faults(options.strict) if faults is None else faults
    table, encoder = options.table(posts), options.encoder(posts)
    model, _ = folder.load(model_folder, encoder)
    for chunk, answer in _answers(table, encoder, model, faults, options, "predict"):
        rows = iter(range(len(chunk.kept)))
        for each in chunk.outcome:
            if isinstance(each, Problem):
                problem = asdict(each)
                yield {"row": problem.pop("row"), "label": None, "problem": problem}
            else:
                yield record(model, each, answer, next(rows))


def predict_one(
    model_folder: Path | str, text: str, image: Path | str | None, options: Options | None = None
) -> dict:
    """Return the answer about one post given by its text ("" for none) and the path of its picture
    (None for none)."""
    options = options or Options()
    # where a link leads, which may be another folder
    image = Path(image).resolve() if image else None
    if image is not None:
        options = replace(options, images=image.parent)
    encoder = options.encoder(None)
    model, _ = folder.load(model_folder, encoder)
    require(
        text.strip() or image is not None,
        "there is neither a text nor a picture: say --text, --image or both",
        PostsUnusable,
    )
    chunk = encoder.encode([Post(1, text.strip(), "" if image is None else image.name)])
    chunk, answer = answer_chunk(chunk, model, encoder)
    if isinstance(problem := chunk.outcome[0], Problem):
        raise PostsUnusable(f"{problem.kind}: {problem.detail}")
    return {
        k: v for k, v in record(model, chunk.kept[0], answer, 0).items() if k not in ("row", "id")
    }


def record(model: SentimentModel, post: Post, answer: Answer, k: int) -> dict:
    """Return one answer as JSON holds it."""
    return {
        "row": post.row,
        "id": post.id,
        "label": model.classes[int(answer.label[k])],
        "probabilities": {
            c: round(float(p), 6)
            for c, p in zip(model.classes, answer.probabilities[k], strict=True)
        },
        "contributions": {m: round(float(v[k]), 6) for m, v in answer.contributions.items()},
        "answered_by": model.method
        if post.text and post.image
        else "text"
        if post.text
        else "image",
    }


def _answers(
    posts: Iterable[Post | Problem],
    encoder: PostEncoder,
    model: SentimentModel,
    faults: Faults,
    options: Options,
    name: str,
) -> Iterator[tuple[Chunk, Answer]]:
    chunks = encoder.chunks(posts, options.columns.image, name if options.progress else "")
    for chunk in chunks:
        chunk, answer = answer_chunk(chunk, model, encoder, options.columns)
        faults.note(chunk.outcome)
        yield chunk, answer


def answer_chunk(
    chunk: Chunk, model: SentimentModel, encoder: PostEncoder, columns: Columns | None = None
) -> tuple[Chunk, Answer]:
    """Return the chunk, less the posts of which the model can read nothing, and the answer about
    the rest."""
    columns = columns or Columns()
    if unreadable := [m for m in MODALITIES if m not in model.modalities]:
        (odd,) = unreadable
        able = {chunk.kept[k].row for m in model.modalities for k in chunk.where[m]}
        outcome = [
            each
            if isinstance(each, Problem) or each.row in able
            else Problem(
                each.row,
                getattr(columns, odd),
                "unknown modality",
                f"the model was trained without any {odd}, and this post has nothing else",
            )
            for each in chunk.outcome
        ]
        chunk = encoder.encode(outcome, columns.image)
    n = len(chunk.kept)
    features = {m: torch.zeros(n, encoder.dims[m]) for m in MODALITIES}
    present = {m: torch.zeros(n, dtype=torch.bool) for m in MODALITIES}
    for m in MODALITIES:
        features[m][chunk.where[m]] = chunk.features[m]
        present[m][chunk.where[m]] = True
    return chunk, model.predict(features, present)
