"""The forms of the book are read in one place, in any language that has a table of words."""

from __future__ import annotations

import dataclasses

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from nbformat import NotebookNode
from nbformat.v4 import new_notebook, new_output

from mmbook import laws, reading, sheets, words
from mmbook.laws.prose import typed_numbers
from mmbook.reading import Notebook
from mmbook.words import WORDS
from mmtutor.report import glue
from tests.book.builders import code, exercises, fold, glued, markdown, notebook

CHINESE = dataclasses.replace(
    WORDS["en"],
    objectives="学完本章你将能够",
    predict="先猜一猜",
    quiz="小测验",
    take_aways="要点",
    bibliography=("延伸阅读",),
    right="对",
    sounds_right=("对", "是的", "没错"),
    kinds=WORDS["en"].kinds | {"Guided": "引导", "Predict": "预测"},
    levels=dict(zip(("easy", "medium", "hard"), ("简单", "中等", "困难"), strict=True)),
    minutes=("分钟",),
    points=("分",),
    exercise_line="*引导，简单，10 分钟，2 分。*",
    show_solution="显示答案",
    hide_solution="隐藏答案",
    numbered=("第#章", "图#"),
    years=("#年",),
    units=("维", "像素"),
    levels_of=("置信区间",),
    percent=("个百分点",),
)


def quiz(right: str = "对。求和看不见乘积。") -> str:
    questions = (
        f"**{n}. 为什么？**\n\n{fold('因为和。', right)}{fold('因为差。', '不，差也是和。')}"
        for n in (1, 2, 3)
    )
    return "## 小测验\n\n" + "".join(questions)


def chinese(*cells: NotebookNode) -> Notebook:
    return Notebook(new_notebook(cells=list(cells)), "zh/lesson.ipynb", words=CHINESE)


def test_quiz_in_another_language():
    page = chinese(markdown("# 融合"), markdown(quiz()))
    (read,), findings = reading.read_quizzes(page.nb, CHINESE)
    assert findings == [] and [question.text for question in read.questions] == ["为什么？"] * 3
    choices = read.questions[0].choices
    assert [choice.summary for choice in choices] == ["因为和。", "因为差。"]
    assert [reading.is_right(choice.text, CHINESE) for choice in choices] == [True, False]
    assert laws.LAWS["quiz"](page) == []


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("求和看不见乘积。", '0 choices whose feedback begins with "对."'),
        ("没错，求和看不见乘积。", "begins with '没错'"),
        ("对。", "that it is right, and not why"),
    ],
)
def test_fault_of_a_quiz_in_another_language(text, part):
    page = chinese(markdown("# 融合"), markdown(quiz(text)))
    found = page.located(laws.LAWS["quiz"](page))
    assert any(problem.startswith("zh/lesson.ipynb:") and part in problem for problem in found)


def test_exercise_in_another_language():
    nb = exercises()
    nb.cells[0].source = "# 习题\n\n## 1. 加倍\n\n*引导，简单，10 分钟，2 分。* 补全 `double`。"
    nb.cells[1].metadata["mystnb"] = CHINESE.prompts
    nb.cells[2].source = nb.cells[2].source.replace("twice two is four", "二二得四")
    (exercise,) = reading.read_exercises(nb, CHINESE)
    assert (exercise.title, exercise.kind, exercise.difficulty) == ("加倍", "Guided", "easy")
    assert (exercise.minutes, exercise.points) == (10, 2)
    page = Notebook(nb, "sheet.ipynb", words=CHINESE)
    assert sheets.form_problems(page) == []
    nb.cells[0].source = nb.cells[0].source.replace("10 分钟，", "")
    assert "without a usable 分钟" in sheets.form_problems(Notebook(nb, "x", words=CHINESE))[0]


def test_lesson_in_another_language_has_its_sections():
    parts = [markdown(f"## {title}\n\n- 加。") for title in ("学完本章你将能够", "小测验", "要点")]
    law = laws.LESSON_LAWS["lesson anatomy"]
    assert list(law(chinese(*parts))) == []
    assert [found.text for found in law(chinese(*parts[1:]))] == ["no section '学完本章你将能够'"]


def test_what_follows_a_directive_between_backticks_is_no_code():
    source = "```{note}\nSee `x`, 0.81.\n```\n\n## Title\n\n```python\ny = 0.5\n```\nEnd 0.62."
    assert reading.code_blanked(source) == "x\nSee xxx, 0.81.\nx\n\n## Title\n\nx\nx\nx\nEnd 0.62."
    assert typed_numbers(source) == ["0.81", "0.62"]


def test_numbers_in_another_language():
    source = "第3章、图2.1和第12章，2017年，512维，224像素；95%置信区间\n\n"
    source += "## 延伸阅读\n\n学报112(3), 456"
    assert typed_numbers(source, CHINESE) == []
    assert typed_numbers("提高了3个百分点，达到85%的准确率。", CHINESE) == ["3 个百分点", "85%"]
    assert typed_numbers("提高了2.5个百分点", CHINESE) == ["2.5 个百分点"]


def test_language_of_the_book_comes_from_its_configuration(tmp_path, monkeypatch):
    assert words.words_of() is WORDS["en"]
    assert words.words_of(tmp_path) is WORDS["en"], "a book that names no language is English"
    other, wrong = tmp_path / "zh", tmp_path / "xx"
    monkeypatch.setitem(WORDS, "zh_CN", CHINESE)
    for folder, language in ((other, "zh_CN"), (wrong, "tlh")):
        folder.mkdir()
        text = f"sphinx:\n  config:\n    language: {language}\n"
        (folder / "_config.yml").write_text(text, encoding="utf-8")
    assert words.words_of(other) is CHINESE
    with pytest.raises(ValueError, match=r"no table of words for 'tlh'.* there is en, zh_CN"):
        words.words_of(wrong)


def test_points_of_a_section_and_title():
    text = "# T\n\n## You will be able to\n\n- one\n  and more;\n- two"
    after = "**Cost**: not of the point.\n\nBut.\n\n## Next\n\n- no"
    nb = new_notebook(cells=[markdown("```\n# no\n```"), markdown(text), markdown(after)])
    assert reading.title(nb) == "T"
    assert reading.section_points(nb, "You will be able to") == ["one and more;", "two"]


def test_what_the_package_glues_is_what_is_read():
    """Writer (mmtutor.report) and reader (mmbook.reading) agree on the form of a glued value."""
    InteractiveShell.instance()
    with capture_output() as captured:
        glue("gain", 0.25, tol=0.02, fmt="{:.2f}")
    (shown,) = captured.outputs
    output = new_output("display_data", data=shown.data, metadata=shown.metadata)
    nb = new_notebook(cells=[markdown("# T"), code("glue(...)", output)])
    assert reading.glued_values(nb) == [reading.Glued(1, "gain", "0.25", 0.02)]
    assert reading.glued_values(notebook(code("x", glued("a", "b"))))[-1].shown == "b"
    bare = new_output("display_data", data=shown.data, metadata=shown.metadata)
    bare.data[reading.GLUED_TEXT] = "not a repr"
    assert reading.glued_values(new_notebook(cells=[code("x", bare)]))[0].shown == "not a repr"
