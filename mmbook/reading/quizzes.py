"""Quizzes and predictions: questions in bold, each with folds to choose from.

    **1. Why does …?**

    <details><summary>Because of this.</summary>

    Right. It is so since …

    </details>

The feedback on the right choice begins with the language's word for "Right" and a mark. What stands
under "Predict first" are folds of the same form, which have no right answer yet.
"""

import re
from dataclasses import dataclass, field

from nbformat import NotebookNode

from mmbook.reading.markdown import Fold, Line, markdown_lines, read_folds
from mmbook.reading.notebook import Finding
from mmbook.words import Words

QUESTION = re.compile(r"\*\*(\d+)(?:\.\s+|[．、]\s*)(\S.*?)\*\*\s*$")
BOLD_LINE = re.compile(r"\*\*.*\*\*\s*$")


@dataclass
class Question:
    """One question and its choices; number 0 stands for a prediction, which has no number."""

    cell: int
    row: int
    number: int
    text: str
    choices: list[Fold] = field(default_factory=list)


@dataclass
class Quiz:
    """A quiz, or what stands under "Predict first"."""

    cell: int
    row: int
    predicts: bool
    questions: list[Question] = field(default_factory=list)


def is_right(feedback: str, words: Words) -> bool:
    """Return whether a feedback says that its choice is the right one."""
    return bool(re.match(rf"{re.escape(words.right)}\s?[.:,。：，]", feedback.lstrip()))


def sounding_right(feedback: str, words: Words) -> str:
    """Return the word at the front of a feedback that says "right" in any way, or ''."""
    known = "|".join(map(re.escape, words.sounds_right))
    match = re.match(rf"(?:{known})(?![A-Za-z])", feedback, re.IGNORECASE)
    return match.group() if match else ""


def read_quizzes(nb: NotebookNode, words: Words) -> tuple[list[Quiz], list[Finding]]:
    """Return the predictions and the quiz of a notebook, and what kept parts of them from being
    read."""
    names = {words.predict.casefold(): True, words.quiz.casefold(): False}
    sections: list[tuple[Quiz, list[Line]]] = []
    for line in markdown_lines(nb):
        predicts = names.get(line.section.casefold())
        if predicts is not None and 0 < line.level <= 2:
            sections.append((Quiz(line.cell, line.row, predicts), []))
        elif predicts is not None:
            sections[-1][1].append(line)
    findings = [finding for quiz, lines in sections for finding in _fill(quiz, lines)]
    return [quiz for quiz, _ in sections], findings


def _fill(quiz: Quiz, lines: list[Line]) -> list[Finding]:
    """Put the questions and choices among the lines of a section into its quiz."""
    folds, findings = read_folds(lines)
    feedback = [line for fold in folds for line in fold.inside]
    if quiz.predicts and folds:
        quiz.questions.append(Question(quiz.cell, quiz.row, 0, "", folds))
        return findings
    opening = {(fold.cell, fold.row): fold for fold in folds}
    for line in (line for line in lines if line not in feedback):
        place = (line.cell, line.row)
        if question := QUESTION.match(line.text):
            quiz.questions.append(Question(*place, int(question[1]), question[2]))
        elif BOLD_LINE.match(line.text) and not quiz.predicts:
            findings.append(Finding("a question has no number in front: write **1. …?**", *place))
        elif place in opening and quiz.questions:
            quiz.questions[-1].choices.append(opening[place])
        elif place in opening:
            findings.append(
                Finding("a choice stands before the first question (**1. …?**)", *place)
            )
    return findings
