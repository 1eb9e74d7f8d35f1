"""Laws about quizzes: questions in bold, each with choices that fold open to what is to be said
about them.

    **1. Why does …?**

    <details><summary>Because of this.</summary>

    Right. It is so since …

    </details>

That works on a page, in Jupyter and in Colab, without a script, by keyboard and by screen reader;
but nothing in it keeps an author from a choice without feedback or a question with two right
answers. These laws do. The items under "Predict first" are folds of the same form; they have no
right answer yet.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import nbformat
from nbformat import NotebookNode

from mmbook.laws.cells import numbered
from mmbook.laws.lines import Finding, located

QUIZ, PREDICT = "quiz", "predict first"
MIN_QUESTIONS, MAX_QUESTIONS, MIN_CHOICES = 3, 5, 2
SECTION = re.compile(r"#{1,2}\s+(.+?)\s*$")
QUESTION = re.compile(r"\*\*(\d+)\.\s+(\S.*?)\*\*\s*$")
BOLD_LINE = re.compile(r"\*\*.*\*\*\s*$")
OPEN = re.compile(r"<details><summary>(.*)</summary>\s*$")
TAG = re.compile(r"</?(?:details|summary)\b[^>]*>")
MARKS = re.compile(r"[$`*]|\{\w+\}")  # a choice is HTML, in which MyST reads no marks
RIGHT = re.compile(r"Right\b[.:,]")
ALSO_RIGHT = re.compile(r"(?:Right|Yes|Correct|Exactly|True)\b", re.IGNORECASE)


@dataclass
class Choice:
    """One fold: where it opens, what is chosen, and what is then said."""

    cell: int
    line: int
    text: str
    feedback: list[str] = field(default_factory=list)

    def said(self) -> str:
        """Return the feedback as one text."""
        return "\n".join(self.feedback).strip()


@dataclass
class Question:
    """One question and its choices; number 0 stands for a prediction, which has no number."""

    cell: int
    line: int
    number: int
    text: str
    choices: list[Choice] = field(default_factory=list)


@dataclass
class Section:
    """A quiz, or what stands under "Predict first"."""

    cell: int
    line: int
    kind: str
    questions: list[Question] = field(default_factory=list)


def section_lines(nb: NotebookNode) -> Iterator[tuple[int, int, str, str]]:
    """Yield (cell, line, section, text) of each markdown line, the section being its # or ##
    heading, case folded."""
    section = ""
    for place, cell in numbered(nb, "markdown"):
        fenced = False
        for row, line in enumerate(cell.source.splitlines()):
            fenced ^= line.lstrip().startswith("```")
            heading = None if fenced else SECTION.match(line)
            section = heading.group(1).casefold() if heading else section
            yield place, row, section, line


def read(nb: NotebookNode) -> tuple[list[Section], list[Finding]]:
    """Return the quiz and the predictions of a notebook, and what about their form kept them from
    being read."""
    sections: list[Section] = []
    findings: list[Finding] = []
    choice: Choice | None = None

    def unclosed() -> None:
        if choice:
            findings.append(
                Finding(choice.cell, choice.line, "this choice is not closed by </details>")
            )

    for place, row, section, line in section_lines(nb):
        if section not in (QUIZ, PREDICT):
            unclosed()
            choice = None
            continue
        if SECTION.match(line):
            unclosed()
            choice = None
            sections.append(Section(place, row, section))
            continue
        quiz = sections[-1]
        opens, question, tags = OPEN.match(line), QUESTION.match(line), TAG.findall(line)
        if opens and len(tags) == 3:
            unclosed()
            choice = Choice(place, row, opens.group(1).strip())
            if quiz.kind == PREDICT and not quiz.questions:
                quiz.questions.append(Question(quiz.cell, quiz.line, 0, ""))
            if quiz.questions:
                quiz.questions[-1].choices.append(choice)
            else:
                findings.append(
                    Finding(place, row, "a choice stands before the first question (**1. …?**)")
                )
        elif line.strip() == "</details>" and choice:
            choice = None
        elif tags:
            findings.append(Finding(place, row, tag_problem(line, tags, choice is not None)))
        elif quiz.kind == QUIZ and BOLD_LINE.match(line) and not choice:
            if question:
                quiz.questions.append(
                    Question(place, row, int(question.group(1)), question.group(2))
                )
            else:
                findings.append(
                    Finding(place, row, "a question has no number in front: write **1. …?**")
                )
        elif choice:
            choice.feedback.append(line)
    unclosed()
    return sections, findings


def tag_problem(line: str, tags: list[str], inside: bool) -> str:
    """Say what is wrong with a line that holds tags of a fold, yet neither opens nor closes one."""
    if line.strip() == "</details>":
        return "</details> closes no choice"
    if tags == ["</details>"] and inside:
        return "</details> stands on a line of its own"
    return (
        "a choice opens with <details><summary>choice</summary> on one line, which holds no other"
        " tag of a fold"
    )


def question_findings(question: Question, what: str) -> Iterator[Finding]:
    """Enough choices, no two alike, each with its own feedback."""
    if len(question.choices) < MIN_CHOICES:
        text = f"{what} has {len(question.choices)} choices, expected at least {MIN_CHOICES}"
        yield Finding(question.cell, question.line, text)
    texts: set[str] = set()
    feedbacks: set[str] = set()
    for choice in question.choices:
        text, said = (
            " ".join(choice.text.split()).casefold(),
            " ".join(choice.said().split()).casefold(),
        )
        if not text:
            yield Finding(choice.cell, choice.line, f"{what} has a choice without a text")
        elif text in texts:
            yield Finding(choice.cell, choice.line, f"{what} has the choice {choice.text!r} twice")
        if not said:
            yield Finding(
                choice.cell, choice.line, f"the choice {choice.text!r} of {what} has no feedback"
            )
        elif said in feedbacks:
            said_twice = f"{what} says the same about two choices: say what is wrong with each"
            yield Finding(choice.cell, choice.line, said_twice)
        elif said.rstrip(".:,") == "right":
            yield Finding(
                choice.cell,
                choice.line,
                f"{what} says of the right choice that it is right, and not why",
            )
        if mark := MARKS.search(choice.text):
            raw = (
                f"the choice {choice.text!r} of {what} holds {mark.group()!r}: a page shows it as"
                " it stands"
            )
            yield Finding(
                choice.cell, choice.line, f"{raw}, use words or HTML such as <code> and <i>"
            )
        texts.add(text)
        feedbacks.add(said)


def right_findings(question: Question, what: str) -> Iterator[Finding]:
    """Exactly one choice is right: its feedback begins with "Right" and a mark, and no other sounds
    as if it were."""
    right = [choice for choice in question.choices if RIGHT.match(choice.said())]
    if len(right) != 1 and question.choices:
        text = (
            f'{what} has {len(right)} choices whose feedback begins with "Right." (or "Right:"),'
            " expected one"
        )
        yield Finding(question.cell, question.line, text)
    for choice in question.choices:
        first = ALSO_RIGHT.match(choice.said())
        if first and choice not in right:
            text = (
                f"the feedback on {choice.text!r} begins with {first.group()!r}: only the right"
                " choice may sound right"
            )
            yield Finding(choice.cell, choice.line, f'{text}, and it begins with "Right."')


def section_findings(section: Section) -> Iterator[Finding]:
    """Enough questions in order, each sound; predictions are lettered in order."""
    if section.kind == QUIZ:
        count = len(section.questions)
        if not MIN_QUESTIONS <= count <= MAX_QUESTIONS:
            text = f"the quiz has {count} questions, expected {MIN_QUESTIONS} to {MAX_QUESTIONS}"
            yield Finding(section.cell, section.line, text)
        for place, question in enumerate(section.questions, start=1):
            if question.number != place:
                text = f"question {question.number} stands where {place} is expected"
                yield Finding(question.cell, question.line, text)
            yield from question_findings(question, f"question {question.number}")
            yield from right_findings(question, f"question {question.number}")
        return
    for question in section.questions:
        yield from question_findings(question, "the prediction")
        for letter, choice in zip("ABCDEFGH", question.choices, strict=False):
            if not choice.text.startswith(f"{letter}. "):
                text = (
                    f"the choice {choice.text!r} of the prediction does not begin with"
                    f" {letter + '.'!r}"
                )
                yield Finding(choice.cell, choice.line, text)


def findings(nb: NotebookNode) -> list[Finding]:
    """Return everything that is wrong with a notebook's quiz and predictions, from top to
    bottom."""
    sections, found = read(nb)
    found += [finding for section in sections for finding in section_findings(section)]
    return sorted(found, key=lambda f: (f.cell, f.line))


def sound(nb: NotebookNode, name: str) -> list[str]:
    """A quiz has three to five numbered questions, each with choices, feedback on each, and one
    that is right."""
    return located(findings(nb), nbformat.writes(nb), name)
