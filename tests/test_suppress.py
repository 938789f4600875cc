"""Comments that silence findings: which lines they speak of, and what counts as a comment."""

from __future__ import annotations

import pytest

from porter import catalog, engine
from porter.suppress import Suppressions
from porter.targets import Target


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("x = 1  # porter: ignore[POR101] reason\n", [1]),
        ("x = 1  # noqa: POR101\n", [1]),
        ("x = 1  # type: ignore  # noqa: E501, POR101\n", [1]),
        ("# porter: ignore[POR101] reason\nx = 1\ny = 2\n", [2]),
        ("# porter: ignore[POR101]\n# more words\n\nx = f(\n  1,\n)\ny = 2\n", [4, 5, 6]),
        ("y = 2\nx = f(\n  1,\n  2,\n)  # porter: ignore[POR101]\n", [2, 3, 4, 5]),
        ("x = f(\n  1,  # porter: ignore[POR101]\n  2,\n)\n", [2]),
        ("with f(\n  1\n):  # porter: ignore[POR101]\n    x = 1\n", [1, 2, 3]),
        ("def f():\n    return 1\n    # porter: ignore[POR101]\nx = 1\n", [4]),
        ("x = 1\n# porter: ignore[POR101]\n", [2]),
        ("x = 1\r\ny = 2  # porter: ignore[POR101]\r\n", [2]),
        ("x = 1\ry = 2  # porter: ignore[POR101]\r", [2]),
        ("x = '\u2028'\ny = 2  # porter: ignore[POR101]\n", [2]),
    ],
)
def test_lines_covered(text: str, lines: list[int]) -> None:
    found = Suppressions.read(text)
    covered = [
        n for n in range(1, text.count("\n") + text.count("\r") + 2) if found.covers("POR101", n)
    ]
    assert covered == lines
    assert not any(found.covers("POR102", n) for n in lines)


@pytest.mark.parametrize(
    "text",
    [
        "x = '# porter: ignore[POR101]'\n",
        's = """\n# porter: file-ignore[POR101]\nx = 1  # noqa: POR101\n"""\n',
        "x = f'{y}# noqa: POR101'\n",
        "x = 1  # noqa\n",
        "x = 1  # noqa: E501\n",
        "x = 1  # see porter: ignore\n",
    ],
)
def test_what_is_no_comment_of_ours(text: str) -> None:
    found = Suppressions.read(text)
    assert not any(found.covers("POR101", n) for n in range(1, 6))
    assert found.malformed == ()


@pytest.mark.parametrize("comment", ["ignore", "ignore[]", "ignore because", "file-ignore"])
def test_a_blanket_comment_hides_nothing_and_is_reported(comment: str) -> None:
    found = Suppressions.read(f"a = 1\nx = 1  # porter: {comment}\n")
    assert not found
    assert found.malformed == (2,)


def test_a_code_that_is_none_is_reported_beside_a_good_one() -> None:
    found = Suppressions.read("x = 1  # porter: ignore[POR101, everything]\n")
    assert found.covers("POR101", 1)
    assert found.malformed == (1,)


def test_a_prefix_covers_its_family() -> None:
    found = Suppressions.read("x = 1  # porter: ignore[POR1]\n")
    assert found.covers("POR105", 1)
    assert not found.covers("POR201", 1)


def test_a_whole_file() -> None:
    found = Suppressions.read("# porter: file-ignore[POR101] vendored\nx = 1\ny = 2\n")
    assert found.covers("POR101", 3)
    assert not found.covers("POR102", 3)


def test_the_engine_neither_rewrites_nor_reports_a_silenced_site() -> None:
    text = "import torch\nx = torch.ones(\n    2\n).cuda()  # porter: ignore[POR101] kept\ny = x.cuda()\n"
    outcome = engine.analyse(text, catalog.load(), Target("npu"))
    assert outcome.text == text.replace("y = x.cuda()", "y = x.npu()")
    assert outcome.suppressed == 1
