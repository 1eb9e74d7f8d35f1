"""Each law bites: a good notebook keeps it, one broken on purpose does not, and the problem names
file and cell."""

from __future__ import annotations

import base64
import io
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_output

from mmbook import laws, sizes
from mmbook.execution import cost_text
from mmbook.laws.data import looks_like_a_photograph, raw_texts
from mmbook.laws.prose import typed_numbers
from mmbook.reading import Notebook
from mmtutor.files import store
from tests.book.builders import (
    ALT,
    code,
    exercises,
    glued,
    markdown,
    notebook,
    number,
    picture,
    png,
    quiz,
    stdout,
    write,
)

NAME = (  # outside the book: no folder of a repository for the cell that prepares Colab
    "xx/lesson.ipynb"
)
EXTRA = 7  # the place of the first extra cell


def test_a_good_notebook_keeps_every_law():
    assert laws.check(page(notebook())) == []


def page(nb: NotebookNode, name: str = NAME) -> Notebook:
    return Notebook(nb, name)


def found_by(law: str, nb: NotebookNode, name: str = NAME) -> list[str]:
    """Return what one law says of a notebook."""
    read = page(nb, name)
    return read.located((laws.LAWS | laws.LESSON_LAWS)[law](read))


def broken(law: str, *extra, change=None, name: str = NAME, **own) -> list[str]:
    """Return what one law says of the good notebook with extra cells, metadata or a change."""
    nb = notebook(*extra, **own)
    assert not found_by(law, notebook(), name), "the good notebook must keep the law"
    if change:
        change(nb)
    return found_by(law, nb, name)


def says(found: list[str], *parts: str) -> bool:
    """Return whether exactly one problem was found, and it names the file and each part."""
    return len(found) == 1 and found[0].startswith(NAME) and all(part in found[0] for part in parts)


# executed in order
# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "part"), [(None, "not executed"), (7, "executed as number 7"), (1, "as number 1")]
)
def test_cell_not_executed_or_out_of_order(count, part):
    def change(nb):
        nb.cells[4].execution_count = count

    assert says(broken("executed in order", change=change), "cell 4", part)


def test_run_that_does_not_start_at_one():
    def change(nb):
        for cell in nb.cells:
            if cell.cell_type == "code":
                cell.execution_count += 1

    assert len(broken("executed in order", change=change)) == 3


def test_notebook_that_was_never_executed():
    """It has that one problem, and those that show before a run: no flood about outputs it cannot
    have."""
    nb = notebook(markdown("0.5"))
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.execution_count, cell.outputs = None, []
    found = laws.check(page(nb))
    assert len(found) == 2 and "never executed" in found[0] and "'0.5'" in found[1]


def test_empty_code_cell():
    assert says(broken("executed in order", code(" \n")), f"cell {EXTRA}", "empty")


# stored, quiet
# -------------------------------------------------------------------------------------------------


def test_cleared_output_of_a_cell_that_prints():
    def change(nb):
        nb.cells[3].outputs = []

    assert says(broken("prints are stored", change=change), "cell 3", "no printed output")


def test_output_without_content():
    assert says(
        broken("prints are stored", code("x", new_output("display_data", data={}))),
        "output 0 is empty",
    )


def test_printing_under_a_condition_or_to_a_file_is_no_promise():
    cells = [code("if x:\n    print(x)"), code("print(x, file=handle)")]
    assert broken("prints are stored", *cells) == []


@pytest.mark.parametrize(
    ("output", "part"),
    [
        (new_output("stream", name="stderr", text="100%|###|"), "stderr"),
        (
            new_output("error", ename="KeyError", evalue="", traceback=["KeyError"]),
            "ended in KeyError",
        ),
        (stdout("x.py:3: FutureWarning: soon gone\n"), "warning"),
        (new_output("display_data", data={"text/html": "<p>UserWarning: odd</p>"}), "warning"),
    ],
)
def test_noise(output, part):
    assert says(broken("quiet", code("f()", output)), f"cell {EXTRA}", part)


# nothing ignored
# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tag",
    ["nbval-ignore-output", "nbval-skip", "raises-exception", "pytest-validate-ignore-output"],
)
def test_tags_that_switch_off_a_check(tag):
    assert says(broken("nothing ignored", code("f()", tags=(tag,))), f"cell {EXTRA}")


@pytest.mark.parametrize(
    "comment", ["# NBVAL_IGNORE_OUTPUT", "#NBVAL_SKIP", "x = 1\n  ## NBVAL_RAISES_EXCEPTION"]
)
def test_comments_that_switch_off_a_check(comment):
    assert says(broken("nothing ignored", code(comment)), f"cell {EXTRA}")


def test_printing_a_time_excuses_but_only_where_a_time_is_printed():
    timed = code("print(perf_counter() - start)", tags=("nbval-ignore-output", "prints-time"))
    assert broken("nothing ignored", timed) == []
    assert says(
        broken("nothing ignored", code("print(accuracy)", tags=("prints-time",))),
        "names no such thing",
    )
    assert says(
        broken("nothing ignored", code("print(accuracy)", tags=("prints-path",))),
        "names no such thing",
    )


def test_no_excuse_for_skipping():
    assert says(
        broken("nothing ignored", code("seconds", tags=("nbval-skip", "prints-time"))), "nbval-skip"
    )


# tolerances
# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "part"),
    [
        (("tol:",), "does not state a positive number"),
        (("tol:ten",), "does not state a positive number"),
        (("tol:-0.1",), "does not state a positive number"),
        (("rtol:inf",), "does not state a positive number"),
        (("tol:0.01", "tol:0.02"), "stated twice"),
        (("tol:0.3",), "too wide"),
        (("rtol:0.5",), "too wide"),
    ],
)
def test_malformed_or_absurd_tolerance(tags, part):
    assert says(
        broken("tolerances", code("print(a)", stdout("accuracy 0.61\n"), tags=tags)),
        f"cell {EXTRA}",
        part,
    )


@pytest.mark.parametrize("tags", [("tol:0.02",), ("rtol:0.05",), ("tol:0.01", "rtol:0.1")])
def test_sensible_tolerance(tags):
    assert broken("tolerances", code("print(a)", stdout("accuracy 0.61\n"), tags=tags)) == []


def test_wide_absolute_tolerance_is_fine_beside_large_numbers():
    assert (
        broken("tolerances", code("print(a)", stdout("mean of 1,797 pictures\n"), tags=("tol:20",)))
        == []
    )


def test_tolerance_without_a_number():
    assert says(
        broken("tolerances", code("print(a)", stdout("yes\n"), tags=("tol:0.01",))),
        "shows no number",
    )


def test_tolerance_of_a_glued_value():
    assert broken("tolerances", code("f()", glued("acc", "61.0 %", 2.0))) == []
    assert says(broken("tolerances", code("f()", glued("acc", "0.61", 0.3))), "glued", "too wide")
    assert says(
        broken("tolerances", code("f()", glued("best", "text", 0.01))), "glued", "shows no number"
    )


# readable without a kernel, no paths
# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        {"application/vnd.jupyter.widget-view+json": {}},
        {"application/javascript": "alert(1)"},
        {"text/html": "<script>1</script>"},
        {"text/html": "<img alt='a photograph of one red apple' src='https://example.org/a.png'>"},
        {"text/html": "<b onclick = 'f()'>x</b>"},
        {"text/html": "<link rel='stylesheet' href='https://example.org/a.css'>"},
    ],
)
def test_live_outputs(data):
    assert says(
        broken("readable without a kernel", code("f()", new_output("display_data", data=data))),
        "cell 7",
    )


@pytest.mark.parametrize(
    "html", ["<a href='https://example.org'>x</a>", "<td>only = one = 1</td>", "<img src='data:x'>"]
)
def test_still_outputs(html):
    assert (
        broken(
            "readable without a kernel",
            code("f()", new_output("display_data", data={"text/html": html})),
        )
        == []
    )


HOME = "/ho" + "me/ann/cache"


@pytest.mark.parametrize("text", [HOME, "C:\\Users\\ann", "file:///x", f"'{HOME}'", "in /tmp/abc"])
def test_paths_of_the_machine(text):
    assert says(
        broken("no machine paths", code("print(folder)", stdout(text))),
        "path of the author's machine",
    )
    assert (
        broken("no machine paths", code("print(folder)", stdout(text), tags=("prints-path",))) == []
    )


@pytest.mark.parametrize("text", ["a/tmp/b", "and/or", "words/home", "1/2", "book/01_first_fusion"])
def test_slashes_that_are_no_paths_of_the_machine(text):
    assert broken("no machine paths", code("print(x)", stdout(text))) == []


# figures
# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alt", "part"),
    [
        (None, "no alternative text"),
        ("  ", "no alternative text"),
        ("A line", "too short"),
        ("../_build/jupyter_execute/one two three four five.png", "file name"),
    ],
)
def test_picture_without_proper_alternative_text(alt, part):
    assert says(
        broken("alternative text", code("assert f()", picture(), alt=alt)), f"cell {EXTRA}", part
    )


def test_two_pictures_cannot_share_one_alternative_text():
    assert says(
        broken("alternative text", code("f()", picture(), picture(), alt=ALT)), "2 pictures"
    )


@pytest.mark.parametrize(
    "source",
    [
        "![](a.png)",
        "![plot](a.png)",
        "<img src='a.png'>",
        "<img src='a.png' alt='too short'>",
        "```{figure} a.png\nCaption of the figure, which is no alternative text.\n```",
        ":::{image} a.png\n:alt: too short\n:::",
    ],
)
def test_markdown_picture_without_alternative_text(source):
    assert says(broken("alternative text", markdown(source)), f"cell {EXTRA}")


@pytest.mark.parametrize(
    "source", [f"![{ALT}](a.png)", f'<img alt="{ALT}">', f"```{{figure}} a.png\n:alt: {ALT}\n```"]
)
def test_markdown_picture_with_alternative_text(source):
    assert broken("alternative text", markdown(source)) == []


@pytest.mark.parametrize(
    "source",
    ["plot(x)", "plot(x)\nassert True", "assert_shown = 1\nplot(x)", "# assert x\nplot(x)"],
)
def test_figure_whose_data_nothing_asserts(source):
    assert says(
        broken("figures asserted", code(source, picture(), alt=ALT)),
        f"cell {EXTRA}",
        "no assertion",
    )


@pytest.mark.parametrize(
    "cells",
    [
        [code("plot(x)\nassert x[0] < x[1]", picture(), alt=ALT)],
        [code("plot(x)", picture(), alt=ALT), markdown("Look."), code("assert x[0] < x[1]")],
        [code("plot(x)\nnp.testing.assert_allclose(x, y)", picture(), alt=ALT)],
    ],
)
def test_figure_whose_data_is_asserted(cells):
    assert broken("figures asserted", *cells) == []


def test_assertion_two_cells_later_is_too_far():
    cells = [code("plot(x)", picture(), alt=ALT), code("y = 1"), code("assert x[0] < x[1]")]
    assert says(broken("figures asserted", *cells), f"cell {EXTRA}")


# numbers in prose
# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("Accuracy rises from 0.61 to .658.", ["0.61", ".658"]),
        ("It gains 3 % or 4% or 5 percent.", ["3 %", "4%", "5 percent"]),
        ("All 590 pictures, 1,797 digits.", ["590", "1,797"]),
        ("The 2000 posts", ["2000"]),
        ("−0.02 below", ["−0.02"]),
        ("```{note}\nAbout 0.7.\n```", ["0.7"]),
        (":::{tip}\n:class: x-0.5\nAbout 0.7.\n:::", ["0.7"]),
        ("````{note}\n```python\nx = 0.1\n```\n0.2\n````", ["0.2"]),
        (
            "```{figure} a_0.1.png\n:alt: rises to 0.8\n:width: 50%\nCaption 0.9\n```",
            ["0.8", "0.9"],
        ),
        ("| a | 0.5 |\n|---|---|", ["0.5"]),
        ("[a link with 0.9](https://example.org/0.8)", ["0.9"]),
        ("![alt of 0.9](x_0.8.png)", ["0.9"]),
        ("## Fusion gains 0.4", ["0.4"]),
        ("<b>0.5</b>", ["0.5"]),
        ("It costs $5, then 0.7 and $6.", ["0.7"]),
        ("## Further reading\n0.5 in 1,234,567 cases", ["0.5", "1,234,567"]),
    ],
)
def test_typed_numbers_are_found(source, found):
    assert typed_numbers(source) == found
    assert len(broken("numbers from glue", markdown(source))) == len(found)


@pytest.mark.parametrize(
    "source",
    [
        "Use `0.61`, ``x = `0.5` `` and $x = 0.5$ and $$y = 100$$ and \\(0.25\\).",
        "\\begin{align}\na = 0.5\n\\end{align}",
        "{glue:text}`acc_0.5` and {cite}`smith2017` and {eq}`e1.5`",
        (
            "```python\nx = 0.1\n```\n~~~\n0.2\n~~~\n```{code-block}"
            " python\n0.3\n```\n```{math}\n0.4\n```"
        ),
        "<https://example.org/0.5> and https://example.org/100/0.3 and <a href='x0.5'>x</a>",
        "# 1.2 A heading's own number\n(label-0.5)=\n<!-- 0.5 -->",
        (
            "Arevalo 2017, Zadeh et al. 2017, (2018), in 2019 and since 1999; arXiv 1702.01992;"
            " doi:10.1000/182"
        ),
        (
            "ResNet-18 and ResNet-152 on 8×8 and 224 × 224 pixels, 224 px, 512-d, 768-dimensional,"
            " 22050 Hz"
        ),
        "CC BY-NC-SA 4.0, Python 3.11, 32-bit; Section 3.2, Figure 1.1, pp. 112–119",
        "a 95 % interval and a 95% confidence interval, noise of −16 dB, 10 classes, 5 folds of 3",
        "1. one\n2. two\n\nSee chapter 12.",
        "## Further reading\n- Smith, A. (2017). *On it.* Journal 112(3), 456–789.",
    ],
)
def test_numbers_that_are_no_results(source):
    assert typed_numbers(source) == []


@pytest.mark.parametrize(
    ("source", "numbers"),
    [
        ("准确率为0.85。", ["0.85"]),
        ("从0.61升到0.85，提高了24%。", ["0.61", "0.85", "24%"]),
        ("准确率为８５％，共１７９７张图", ["85%", "1797"]),
        ("差为-0.02；模型ResNet-18准确率0.85", ["-0.02", "0.85"]),
        ("正解率は0.9です", ["0.9"]),
    ],
)
def test_typed_numbers_are_found_where_no_space_stands_between_words(source, numbers):
    assert typed_numbers(source) == numbers
    found = broken("numbers from glue", markdown(f"一行。\n\n{source}"))
    assert len(found) == len(numbers)
    assert all(problem.startswith(f"{NAME}:") and f"cell {EXTRA}" in problem for problem in found)


def test_chinese_text_that_holds_no_result():
    source = (
        "模型ResNet-18在224×224像素的图上（2017）训练，见arXiv 1702.01992，采用`0.85`和$x=0.5$。"
    )
    assert typed_numbers(source) == []


def test_chinese_alternative_text_has_words_without_spaces():
    alt = "一条蓝线从左下方升到右上方"
    assert broken("alternative text", code("assert f()", picture(), alt=alt)) == []
    short = code("assert f()", picture(), alt="一条蓝线")
    assert says(broken("alternative text", short), "too short")


def test_alternative_text_may_not_hold_results():
    cell = code("assert f()", picture(), alt="A line that rises to 0.61 and stays there")
    assert says(broken("numbers from glue", cell), f"cell {EXTRA}", "alternative text", "0.61")


# glue
# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source", ["{glue:text}`gone`", "{glue}`gone`", "{glue:text}`gone:.2f`", "```{glue} gone\n```"]
)
def test_citing_a_value_that_is_not_glued(source):
    assert says(broken("glue", markdown(source)), f"cell {EXTRA}", "'gone'")


def test_glue_roles_shown_as_code_cite_nothing():
    assert (
        broken("glue", markdown("Write `` {glue:text}`name` ``, or\n```\n{glue:text}`name`\n```"))
        == []
    )


def test_a_name_glued_twice_and_a_glue_call_without_value():
    assert says(broken("glue", code("f()", glued("sum", "0.6"))), "'sum'", "2 times")
    assert says(broken("glue", code("report.glue('lost', 1)")), f"cell {EXTRA}", "'lost'")


# cost
# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "part"),
    [
        ({"seconds": 61.0}, "takes 61 s"),
        ({"memory_mb": 2049}, "takes 2049 MB"),
        ({"seconds": 0}, "no measurement"),
        ({"memory_mb": "300"}, "no measurement"),
    ],
)
def test_cost_beyond_the_limit_or_not_measured(own, part):
    def keep_text_true(nb):
        nb.metadata.mmtutor.update(own)
        nb.cells[1].source = cost_text(nb.metadata.mmtutor) if own.get("memory_mb") != "300" else ""

    assert part in broken("cost", change=keep_text_true)[0]


def test_pytorch_guard_a_notebook_that_took_no_time_was_not_run():
    def change(nb):
        nb.metadata.mmtutor = {}

    assert len([p for p in broken("cost", change=change) if "no measurement" in p]) == 2


def test_cost_that_differs_from_the_measurement():
    def change(nb):
        nb.metadata.mmtutor.seconds = 20.0

    assert says(broken("cost", change=change), "cell 1", "not the cost measured")


def test_cost_missing_or_far_down():
    def remove(nb):
        nb.cells[1].metadata = {}

    def move(nb):
        nb.cells.append(nb.cells.pop(1))

    assert says(broken("cost", change=remove), "0 cells are tagged cost")
    assert says(broken("cost", change=move), "too far down")


def test_author_note_is_part_of_the_cost():
    assert found_by("cost", notebook(cost_note="A GPU does not help.")) == []
    assert "A GPU does not help." in notebook(cost_note="A GPU does not help.").cells[1].source


# data
# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "d = load('oasis')",
        "from mmtutor.data import oasis",
        "mmtutor.data.oasis.load()",
        "digits(speech='oasis')",
    ],
)
def test_use_of_a_set_must_be_declared(source):
    assert says(broken("needs", code(source)), f"cell {EXTRA}", "'oasis'")
    assert broken("needs", code(source), needs=["oasis"]) == []


@pytest.mark.parametrize(
    ("stated", "part"),
    [
        (["nowhere"], "unknown set 'nowhere'"),
        (["oasis"], "no code names it"),
        ("oasis", "expected a list"),
    ],
)
def test_wrong_needs(stated, part):
    assert says(broken("needs", needs=stated), part)


def test_generated_data_need_no_declaration():
    assert broken("needs", code("load('synergy'); load('digits')")) == []


NOISE = png(np.random.default_rng(0).integers(0, 256, (40, 40, 3)))


def chart() -> str:
    figure, axes = plt.subplots()
    axes.plot([1, 3, 2])
    axes.set_title("a chart")
    buffer = io.BytesIO()
    figure.savefig(buffer)
    plt.close(figure)
    return base64.b64encode(buffer.getvalue()).decode()


def test_a_photograph_is_told_from_a_chart():
    assert looks_like_a_photograph(NOISE) and not looks_like_a_photograph(chart())
    assert looks_like_a_photograph("not a picture")


USES_MVSA = code("d = load('mvsa')")


@pytest.mark.parametrize(
    ("cell", "part"),
    [
        (code("plt.imshow(x)\nassert x", alt=ALT), "calls imshow"),
        (code("f()\nassert x", picture(NOISE), alt=ALT), "photograph"),
        (
            code("f()", new_output("display_data", data={"image/jpeg": "aaaa"}), alt=ALT),
            "photograph",
        ),
    ],
)
def test_pictures_of_a_set_that_may_not_be_shown(cell, part):
    assert says(broken("do not display", USES_MVSA, cell, needs=["mvsa"]), "cell 8", part)


def test_charts_and_numbers_of_such_a_set_may_be_shown():
    cells = [
        USES_MVSA,
        code("plot(x)\nassert x", picture(chart()), alt=ALT),
        code("print(n)", stdout("2000\n")),
    ]
    assert broken("do not display", *cells, needs=["mvsa"]) == []


def test_photographs_of_other_sets_may_be_shown():
    assert broken("do not display", code("plt.imshow(x)\nassert x", picture(NOISE), alt=ALT)) == []


@pytest.fixture
def fresh_texts():
    """What was read of the sets before, or is read here, counts for no other test."""
    raw_texts.cache_clear()
    yield
    raw_texts.cache_clear()


@pytest.mark.usefixtures("fresh_texts")
def test_texts_of_a_set_that_may_not_be_shown(tmp_path, monkeypatch):
    """With a stand-in for the set, so that the law itself is tested everywhere."""
    (tmp_path / "mvsa" / "files" / "data").mkdir(parents=True)
    (tmp_path / "mvsa" / "files" / "data" / "1.txt").write_text(
        "what a lovely   day at the sea today\n"
    )
    monkeypatch.setenv("MMTUTOR_DATA", str(tmp_path))
    shown = code("print(x)", stdout("first: what a lovely day\nat the sea today\n"))
    other = code("print(x)", stdout("what a lovely day\n"))
    assert says(
        broken("do not display", USES_MVSA, shown, needs=["mvsa"]),
        "cell 8",
        "one of the texts of mvsa",
    )
    assert broken("do not display", USES_MVSA, other, needs=["mvsa"]) == []


@pytest.mark.usefixtures("fresh_texts")
def test_texts_of_the_real_set_are_known():
    if store.locate(store.manifest("mvsa")) is None:
        pytest.skip(
            "data set 'mvsa' is not on this machine (neither in MMTUTOR_DATA nor in the cache)"
        )
    assert len(raw_texts("mvsa")) > 1000


# structure
# -------------------------------------------------------------------------------------------------


def test_long_cell():
    assert broken("short cells", code("x = 1\n" * 25)) == []
    assert says(broken("short cells", code("x = 1\n" * 26)), f"cell {EXTRA}", "26 lines")


@pytest.mark.parametrize(
    "first", ["Text first\n\n# Title", "## Title", "#Title", "```\n# comment\n```"]
)
def test_no_title_first(first):
    def change(nb):
        nb.cells[0].source = first

    assert says(broken("title", change=change), "does not begin with a title")


def test_label_before_the_title_and_comments_in_code_are_fine():
    def change(nb):
        nb.cells[0].source = "(first)=\n# Title\n\n```\n# a comment\n```"

    assert broken("title", change=change) == []


def test_second_title():
    assert says(broken("title", markdown("# Another")), f"cell {EXTRA}", "second title")


@pytest.mark.parametrize(
    ("section", "place"), [("You will be able to", 2), ("Quiz", -2), ("Take-aways", -1)]
)
def test_missing_part_of_a_lesson(section, place):
    def change(nb):
        nb.cells[place].source = f"{section} is not a heading here"

    assert says(broken("lesson anatomy", change=change), f"'{section}'")


def test_exercise_sheets_need_no_quiz():
    sheet = number(exercises())
    assert not any(
        "no section" in problem for problem in laws.check(page(sheet, "xx/exercises.ipynb"))
    )
    assert any("no section" in problem for problem in laws.check(page(sheet)))


@pytest.mark.parametrize(
    ("metadata", "part"),
    [
        ({"kernelspec": {"name": "my-env"}}, "'my-env'"),
        ({"widgets": {}}, "'widgets'"),
        ({"origin": HOME}, "path of the author's machine"),
    ],
)
def test_metadata_of_the_notebook(metadata, part):
    assert says(broken("metadata", change=lambda nb: nb.metadata.update(metadata)), part)


@pytest.mark.parametrize(
    "metadata", [{"execution": {"iopub.execute_input": "2026"}}, {"source": HOME}]
)
def test_metadata_of_a_cell(metadata):
    assert says(
        broken("metadata", change=lambda nb: nb.cells[3].metadata.update(metadata)), "cell 3"
    )


def test_file_size(tmp_path):
    path = tmp_path / "lesson.ipynb"
    assert laws.check_file(write(notebook(), path)) == []
    write(notebook(markdown("long " * 60_001)), path)
    assert any("the limit is 300 KB" in problem for problem in laws.check_file(path))


ELSEWHERE = ["runs in Colab"]  # tests/book/test_launch.py breaks it


def test_every_law_has_a_test_that_breaks_it():
    """A law added without a deliberately broken notebook is noticed here."""
    with open(__file__, encoding="utf-8") as file:
        source = file.read()
    broken_here = set(re.findall(r'says\(\s*broken\(\s*"([^"]+)"', source))
    assert [law for law in laws.LAWS | laws.LESSON_LAWS if law not in broken_here] == ELSEWHERE


def test_quiz_with_a_choice_of_which_nothing_is_said():
    """tests/book/test_quiz.py breaks a quiz in every other way."""
    cell = markdown(
        "## Quiz\n\n" + quiz().replace("Only now and then.", "", 1).removeprefix("## Quiz")
    )
    assert says(broken("quiz", cell), f"cell {EXTRA}", "has no feedback")


# README's table
# -------------------------------------------------------------------------------------------------


def house(root, table: str) -> list[str]:
    for path in (
        "book/01_first/lesson.ipynb",
        "mmtutor/fusion.py",
        "mmtutor/files/store.py",
        "tests/test_fusion.py",
    ):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    (root / "mmtutor" / "__init__.py").touch()
    (root / "README.md").write_text(f"# x\n{table}\n")
    return laws.chapter_table_problems(root)


ROWS = {
    "good": (
        "| `book/01_first/` | [fusion](mmtutor/fusion.py), `mmtutor/files/store.py` |"
        " `tests/test_fusion.py` |"
    ),
    "folder": (
        "| [1](book/01_first/lesson.ipynb) | `mmtutor/fusion.py` `mmtutor/files/` |"
        " `tests/test_fusion.py` |"
    ),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_true_table(tmp_path, row):
    assert house(tmp_path, f"<!-- chapter table -->\n{row}\n<!-- end -->") == []


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (
            "tests/test_fusion.py",
            "tests/test_gone.py",
            "names tests/test_gone.py, which does not exist",
        ),
        ("`tests/test_fusion.py`", "none", "names nothing in tests/"),
        ("mmtutor/files/store.py", "mmtutor/fusion.py", "lacks the module mmtutor/files/store.py"),
        ("mmtutor/files/store.py", "mmtutor/", "lacks the module mmtutor/files/store.py"),
        ("book/01_first/", "book/", "lacks the chapter book/01_first"),
    ],
)
def test_untrue_table(tmp_path, old, new, complaint):
    row = ROWS["good"].replace(old, new)
    found = house(tmp_path, f"<!-- chapter table -->\n{row}\n<!-- end -->")
    assert [complaint in problem for problem in found] == [True], found


def test_missing_table(tmp_path):
    assert "no table between" in house(tmp_path, "no markers")[0]


GLUED = "<details><summary>A.</summary>\n\nIt is.\n</details>"


@pytest.mark.parametrize(
    "text",
    [
        "<details><summary>A.</summary>\nIt is *not* so.\n</details>",
        "<details><summary>A.</summary>It is *not* so.\n\n</details>",
        "<details><summary>A.</summary>\n\nIt is *not* so.\n</details>",
    ],
)
def test_a_folded_answer_that_would_not_be_read_as_markdown(text):
    found = broken("folded answers", markdown(text))
    assert found and all(says([problem], f"cell {EXTRA}", "blank line") for problem in found)
    assert says(broken("folded answers", markdown(GLUED)), f"cell {EXTRA}", "blank line")


def test_a_folded_answer_between_blank_lines_is_fine():
    good = markdown("<details><summary>A.</summary>\n\nIt is *not* so.\n\n</details>")
    assert not broken("folded answers", good)


# The package and its chapters
# -------------------------------------------------------------------------------------------------


def small_package(root, sentence: str, imports: str, module: str = "toy/deep.py") -> list[str]:
    """A package whose `toy/deep.py` ends its docstring with a sentence, and a chapter that runs
    `imports`."""
    files = {
        "mmtutor/__init__.py": '"""A package."""',
        "mmtutor/toy/__init__.py": "from mmtutor.toy.wide import g\n\n__all__ = ['g']",
        "mmtutor/toy/wide.py": '"""W.\n\nTaught in chapter 3."""\n\n\ndef g(): ...',
        "mmtutor/toy/way.py": '"""W. Taught in chapter 3."""\n\n\ndef g():\n    from . import deep',
        "mmtutor/data/__init__.py": '"""Sets. Taught in chapter 3."""\n\n\ndef load(name): ...',
        "mmtutor/data/planes.py": '"""P. Taught in chapter 3."""\n\n\ndef world(): ...',
        "mmtutor/apps/x.py": "x = 1",
        "mmtutor/cli.py": "x = 1",
    }
    deep = {f"mmtutor/{module}": f'"""Deep.\n\n{sentence}"""'}
    for name, text in (deep | files if module in str(files) else files | deep).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    write(notebook(code(imports)), root / "book" / "03_x" / "lesson.ipynb")
    write(notebook(), root / "book" / "04_y" / "lesson.ipynb")
    return [text for text in laws.taught_problems(root) if text.startswith(f"mmtutor/{module}")]


@pytest.mark.parametrize(
    "imports",
    [
        "from mmtutor.toy import deep",
        "import mmtutor.toy.deep as d",
        "from mmtutor.toy.deep import f",
        "def f():\n    from mmtutor.toy import way",
    ],
)
def test_module_that_its_chapter_imports_itself_or_through_another(tmp_path, imports):
    assert small_package(tmp_path, "Taught in chapter 3.", imports) == []


@pytest.mark.parametrize(
    ("sentence", "imports", "part"),
    [
        ("Taught somewhere.", "from mmtutor.toy import deep", "does not end with 'Taught in"),
        ("Taught in chapter 3. Or so.", "from mmtutor.toy import deep", "does not end with"),
        ("Taught in chapter 9.", "from mmtutor.toy import deep", "there is no chapter 9"),
        ("Waits for chapter 3.", "from mmtutor.toy import deep", "chapter 3 is there"),
        ("Taught in chapters 3 and 4.", "from mmtutor.toy import deep", "no notebook of book/04_y"),
        ("Taught in chapter 3.", "from mmtutor.toy import g", "no notebook of book/03_x imports"),
        ("Taught in chapter 3.", "import torch", "no notebook of book/03_x imports"),
    ],
)
def test_module_that_no_chapter_teaches(tmp_path, sentence, imports, part):
    (problem,) = small_package(tmp_path, sentence, imports)
    assert problem.startswith("mmtutor/toy/deep.py:1: ") and part in problem


def test_module_that_is_ahead_of_its_chapter(tmp_path):
    assert small_package(tmp_path, "Waits for chapter 9.", "import torch") == []


def test_loading_a_set_imports_its_loader(tmp_path):
    where = {"module": "data/planets.py"}
    sentence = "Taught in chapter 3."
    assert small_package(tmp_path, sentence, "d = data.load('planets')", **where) == []
    assert len(small_package(tmp_path, sentence, "d = data.load('world')", **where)) == 1
    assert small_package(tmp_path, sentence, "d = load('world')", module="data/planes.py") == []


# Sizes
# -------------------------------------------------------------------------------------------------


def test_statements_are_counted_without_docstrings_and_whatever_their_length():
    source = '"""Text."""\n\n\ndef f(\n    x,\n):\n    """Text."""\n    # why\n'
    source += "    return [\n        x\n    ]\n"
    assert sizes.statements(source) == 2


def test_the_core_may_grow_with_its_chapters():
    few = sizes.CORE[10]
    assert [sizes.core_limit(n) for n in (3, 10, 17, 20)] == [few, few, 5300, 5300]
    assert few < sizes.core_limit(12) < sizes.core_limit(15) < 5300


def test_what_is_too_large_is_named(tmp_path, monkeypatch):
    for name, count in {"core/a": 30, "core/b": 10, "apps/x": 3, "cli": 110}.items():
        path = tmp_path / "mmtutor" / f"{name.removeprefix('core/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x = 1\n" * count, encoding="utf-8")
    (tmp_path / "mmbook").mkdir()
    (tmp_path / "mmbook" / "y.py").write_text("x = 1\n" * 5, encoding="utf-8")
    assert sizes.size_problems(tmp_path) == ["core/cli: 110 statements, at most 30"]
    assert sizes.size_table(tmp_path)[2] == ("mmbook", 5, sizes.BOOK)
    monkeypatch.setattr(sizes, "APPS", 2)
    monkeypatch.setattr(sizes, "BOOK", 4)
    monkeypatch.setattr(sizes, "CORE", {10: 100, 17: 120})
    assert [text.split(":")[0] for text in sizes.size_problems(tmp_path)] == [
        *("core", "apps", "mmbook", "core/cli")
    ]


def test_the_house_keeps_its_sizes():
    assert sizes.size_problems() == []
