"""Laws about quizzes and predictions (`mmbook.reading.quizzes` says how they are written).

Nothing in their form keeps an author from a choice without feedback or a question with two right
answers. These laws do.
"""

import re
from collections.abc import Iterator

from mmbook.reading import (
    Finding,
    Fold,
    Notebook,
    Question,
    Quiz,
    holding,
    is_right,
    read_quizzes,
    sounding_right,
)
from mmbook.words import Words

MIN_QUESTIONS, MAX_QUESTIONS, MIN_CHOICES = 3, 5, 2
MARKS = re.compile(r"[$`*]|\{\w+\}")  # a choice is HTML, in which MyST reads no marks


def plain(text: str) -> str:
    """Return text as two are compared: case folded, white space as single spaces."""
    return " ".join(text.split()).casefold()


def question_findings(question: Question, what: str, words: Words) -> Iterator[Finding]:
    """Enough choices, no two alike, each with its own feedback."""
    if (count := len(question.choices)) < MIN_CHOICES:
        yield Finding(
            f"{what} has {count} choices, expected at least {MIN_CHOICES}",
            question.cell,
            question.row,
        )
    yield from (
        Finding(text, choice.cell, choice.row)
        for number, choice in enumerate(question.choices)
        for text in choice_faults(choice, question.choices[:number], what, words)
    )


def choice_faults(choice: Fold, earlier: list[Fold], what: str, words: Words) -> list[str]:
    """Say what is wrong with a choice beside those before it."""
    shown, feedback = plain(choice.summary), plain(choice.text)
    named, mark = f"the choice {choice.summary!r} of {what}", MARKS.search(choice.summary)
    return holding(
        {
            f"{what} has a choice without a text": not shown,
            f"{what} has the choice {shown!r} twice": (
                shown and shown in [plain(other.summary) for other in earlier]
            ),
            f"{named} has no feedback": not feedback,
            f"{what} says the same about two choices: say what is wrong with each": (
                feedback and feedback in [plain(other.text) for other in earlier]
            ),
            f"{what} says of the right choice that it is right, and not why": (
                feedback.rstrip(".:,。：，") == words.right.casefold()
            ),
            f"{named} holds {mark and mark.group()!r}: a page shows it as it stands, use words or"
            " HTML such as <code> and <i>": mark,
        }
    )


def right_findings(question: Question, what: str, words: Words) -> Iterator[Finding]:
    """Exactly one choice is right: its feedback begins with "Right" and a mark, and no other sounds
    as if it were."""
    right = [choice for choice in question.choices if is_right(choice.text, words)]
    if len(right) != 1 and question.choices:
        yield Finding(
            f'{what} has {len(right)} choices whose feedback begins with "{words.right}."'
            f' (or "{words.right}:"), expected one',
            question.cell,
            question.row,
        )
    yield from (
        Finding(
            f"the feedback on {c.summary!r} begins with {first!r}: only the right choice may sound"
            f' right, and it begins with "{words.right}."',
            c.cell,
            c.row,
        )
        for c in question.choices
        if c not in right and (first := sounding_right(c.text, words))
    )


def prediction_findings(quiz: Quiz, words: Words) -> Iterator[Finding]:
    """The choices of each prediction are sound, and lettered in order."""
    for question in quiz.questions:
        yield from question_findings(question, "the prediction", words)
        for letter, choice in zip("ABCDEFGH", question.choices, strict=False):
            if not re.match(rf"{letter}(?:\. |[．、。])", choice.summary):
                yield Finding(
                    f"the choice {choice.summary!r} of the prediction does not begin with"
                    f" '{letter}.'",
                    choice.cell,
                    choice.row,
                )


def quiz_findings(quiz: Quiz, words: Words) -> Iterator[Finding]:
    """Three to five questions in order, each sound."""
    if not MIN_QUESTIONS <= (count := len(quiz.questions)) <= MAX_QUESTIONS:
        yield Finding(
            f"the quiz has {count} questions, expected {MIN_QUESTIONS} to {MAX_QUESTIONS}",
            quiz.cell,
            quiz.row,
        )
    for place, question in enumerate(quiz.questions, start=1):
        what = f"question {question.number}"
        if question.number != place:
            yield Finding(f"{what} stands where {place} is expected", question.cell, question.row)
        yield from question_findings(question, what, words)
        yield from right_findings(question, what, words)


def sound(page: Notebook) -> list[Finding]:
    """A quiz has three to five numbered questions, each with choices, feedback on each, and one
    that is right; from top to bottom."""
    quizzes, findings = read_quizzes(page.nb, page.words)
    for quiz in quizzes:
        findings += (prediction_findings if quiz.predicts else quiz_findings)(quiz, page.words)
    return sorted(findings, key=lambda found: (found.cell, found.line))
