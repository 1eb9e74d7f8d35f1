"""train, evaluate, predict: what `mmtutor` does with a table, each callable from Python with the
same arguments."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from mmtutor.apps import encoding, folder, gathering, reading, scores
from mmtutor.apps.faults import MAX_MEGABYTES, Faults, Problem, TableUnusable
from mmtutor.apps.model import Answer, Model, train_final
from mmtutor.apps.report import findings, learning_curve, page
from mmtutor.apps.rows import Roles, Row, Rows, canonical, survey
from mmtutor.checks import known_names, require
from mmtutor.choosing.grouped import TooFewSamples
from mmtutor.choosing.nested import choose
from mmtutor.device import make_accelerator, one_thread

Source = Path | str | Iterable[Mapping[str, object]]
"""A table's file, "-" for standard input, or its rows as dictionaries."""


@dataclass(frozen=True)
class Options:
    """What the three commands share. folder: of pictures and sounds, None for the table's own.

    text_encoder: "minilm" (English), or "characters" (any language). strict: stop at the first
    faulty row. cache: True for the usual feature cache, or a folder. without: modalities that are
    taken as absent.
    """

    roles: Roles = field(default_factory=Roles)
    folder: Path | str | None = None
    delimiter: str | None = None
    encoding: str | None = None
    quoting: str = "auto"
    text_encoder: str = "minilm"
    strict: bool = False
    device: str | None = None
    cache: bool | Path | str = True
    max_megabytes: float = MAX_MEGABYTES
    progress: bool = True
    without: tuple[str, ...] = ()

    def table(self, source: Source) -> reading.Table:
        """Open a table."""
        return reading.Table(
            source, delimiter=self.delimiter, encoding=self.encoding, quoting=self.quoting
        )

    def encoding_of(self, source: Source) -> dict:
        """Return what an encoder of this table's rows is made with."""
        beside = Path(source).parent if isinstance(source, Path | str) else None
        return {
            "folder": beside if self.folder is None else self.folder,
            "device": self.device,
            "cache": self.cache,
            "max_megabytes": self.max_megabytes,
        }


USUAL = Options()


def train(
    source: Source,
    out: Path | str,
    options: Options = USUAL,
    *,
    splits: int = 5,
    repeats: int = 3,
    seed: int = 0,
    decision: str = "balanced",
    positive: tuple[str, ...] = (),
    overwrite: bool = False,
    faults: Faults | None = None,
) -> dict:
    """Choose among all ways to read the table's rows, train the choice, write the model folder;
    return the report.

    Under several processes (torchrun) all take part and the first one writes. The same call on the
    same machine gives the same bytes; where features were encoded in other batches, as after an
    interruption, the last digits may differ.
    positive: classes whose sensitivity the report tells, by default the rarer of two. faults: where
    to note what is wrong with rows, as in `evaluate` and `predict`.
    Raises TableUnusable, FileExistsError or what the encoders raise; then nothing was written.
    """
    # first: it says which GPU this process has
    accelerator = make_accelerator(options.device, mixed=False)
    faults = Faults(options.strict) if faults is None else faults
    rows = Rows(options.table(source), options.roles, labelled=True)
    out = folder.check_free(out, overwrite)
    found = survey(rows)
    known_names("positive", dict.fromkeys(positive), found.classes, "classes")
    if not positive and len(found.classes) == 2:
        positive = (min(found.classes, key=lambda name: found.counts[name]),)
    encoder = encoding.RowEncoder(
        rows.roles,
        text_encoder=options.text_encoder,
        vocabulary=found.vocabulary,
        **options.encoding_of(source),
    )
    table, slices = gathering.gather(rows, found, encoder, faults, options.progress)
    lost = f"{rows.name} holds no usable row.\n{faults.summary()}"
    require(len(table), lost, TableUnusable)
    faults.remarks += [*found.remarks, *encoder.remarks()]
    repeated = len(table) - len(np.unique(table.groups))
    if repeated and not rows.roles.group:
        told = "row that repeats another's words or file: it stays in one fold with it"
        faults.remarks.append(f"{repeated:,} × {told}.")
    with one_thread():
        try:
            choice = choose(
                table,
                splits=splits,
                repeats=repeats,
                seed=seed,
                decision=decision,
                device=options.device,
                progress=options.progress,
            )
        except TooFewSamples as problem:
            raise TableUnusable(
                f"the rows cannot be compared: {problem}. Rows of the same words (numbers and links"
                " aside) or the same file are one group, unless --group names a column. --folds"
                f" says how many folds.\n{faults.summary()}"
            ) from problem
        model = train_final(table, choice, decision, options.device, found.target)
        curve = learning_curve(table, choice, seed, options.device)
    report = findings(
        table,
        slices,
        choice,
        found,
        rows,
        faults,
        positive=positive,
        curve=curve,
        decision=decision,
        splits=splits,
        repeats=repeats,
        seed=seed,
    )
    if accelerator.is_main_process:
        folder.save(model, encoder, report, page(report), out, overwrite)
    accelerator.wait_for_everyone()
    return report


def evaluate(
    model_folder: Path | str,
    source: Source,
    options: Options = USUAL,
    faults: Faults | None = None,
) -> dict:
    """Return the model's scores on labelled rows, with intervals, see `scores`, and how many rows
    each set of modalities has answered.

    Raises TableUnusable where no row is left to judge on, ModelUnusable for a folder that is no
    whole model.
    """
    faults = Faults(options.strict) if faults is None else faults
    model, encoder, rows = opened(model_folder, source, options, labelled=True)
    grouping, y, guess, values = gathering.Grouping(), [], [], []
    answered: Counter[str] = Counter()
    names = {canonical(name): name for name in model.classes}
    for chunk, answer in answers(rows.labelled(names), encoder, model, faults, options, "evaluate"):
        grouping.add(chunk)
        answered.update(" + ".join(read) for read in answer.read)
        labels = [str(row.label) for row in chunk.kept]
        y += [model.classes.index(each) if model.classes else float(each) for each in labels]
        guess.append(answer.label.numpy())
        values.append(answer.values.numpy())
    faults.remarks += [*rows.table.notes, *rows.remarks, *encoder.remarks()]
    require(
        y,
        f"{rows.name} holds no row to judge on.\n{faults.summary() or 'It has no rows.'}",
        TableUnusable,
    )
    truth, said, groups = np.array(y), np.concatenate(values), grouping.numbers()
    judged = (
        scores.class_scores(np.concatenate(guess), said, truth, groups)
        if model.classes
        else scores.number_scores(said[:, 0], truth, groups)
    )
    return {
        **judged,
        "n": {"value": len(y), "interval": [len(y), len(y)]},
        "classes": list(model.classes),
        "answered_by": dict(answered),
        "problems": faults.as_json(),
    }


def predict(
    model_folder: Path | str,
    source: Source,
    options: Options = USUAL,
    faults: Faults | None = None,
) -> Iterator[dict]:
    """Yield one answer per row of the table, in order; a faulty row's answer holds its problem
    instead.

    The first row is answered before the second part of the table is read: memory stays flat.
    """
    faults = Faults(options.strict) if faults is None else faults
    model, encoder, rows = opened(model_folder, source, options)
    for chunk, answer in answers(rows, encoder, model, faults, options, "predict"):
        said = iter(range(len(chunk.kept)))
        for each in chunk.outcome:
            if isinstance(each, Problem):
                problem = asdict(each)
                yield {"row": problem.pop("row"), "label": None, "problem": problem}
            else:
                yield record(model, each, answer, next(said))
    faults.remarks += [*rows.table.notes, *rows.remarks, *encoder.remarks()]


def opened(
    model_folder: Path | str, source: Source, options: Options, labelled: bool = False
) -> tuple[Model, encoding.RowEncoder, Rows]:
    """Return a model, the encoder it was trained behind, and the rows of a table in the roles that
    it was trained with, or in those that the options name."""
    model, config = folder.load(model_folder)
    rows = Rows(options.table(source), options.roles, labelled, folder.roles_of(config))
    encoder = folder.encoder_of(config, model_folder, rows.roles, **options.encoding_of(source))
    return model, encoder, rows


def record(model: Model, row: Row, answer: Answer, k: int) -> dict:
    """Return one answer as JSON holds it."""
    values = [round(float(v), 6) for v in answer.values[k]]
    if model.classes:
        label: object = model.classes[int(answer.label[k])]
        said: dict[str, object] = {"probabilities": dict(zip(model.classes, values, strict=True))}
    else:
        label, spread = values[0], model.spread(answer.read[k])
        said = {"interval": [round(values[0] - spread, 6), round(values[0] + spread, 6)]}
    return {
        "row": row.row,
        "id": row.id,
        "label": label,
        **said,
        "contributions": {m: round(float(v[k]), 6) for m, v in answer.contributions.items()},
        "answered_by": " + ".join(answer.read[k]),
    }


def answers(
    rows: Iterable[Row | Problem],
    encoder: encoding.RowEncoder,
    model: Model,
    faults: Faults,
    options: Options,
    name: str,
) -> Iterator[tuple[encoding.Chunk, Answer]]:
    """Yield the rows chunk by chunk, less those of which the model can read nothing, and the
    answers."""
    known_names("without", dict.fromkeys(options.without), model.modalities, "modalities")
    able = {*model.modalities} - {*options.without}
    why = f"the model reads {', '.join(sorted(able))}, and this row has none of it"
    readable = (
        row
        if isinstance(row, Problem) or able & row.has.keys()
        else Problem(row.row, next(iter(row.has)), "unknown modality", why)
        for row in rows
    )
    for chunk in encoder.chunks(readable, name if options.progress else ""):
        faults.note(chunk.outcome)
        features, present = chunk.table()
        for m in options.without:
            present[m][:] = False
        yield chunk, model.answer(features, present)
