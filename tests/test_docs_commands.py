"""Every command that README.md, CONTRIBUTING.md and docs/ show is run; see tests/console.py."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest


def _module() -> ModuleType:
    path = Path(__file__).parent / "console.py"
    spec = importlib.util.spec_from_file_location("console", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    sys.modules["console"] = module
    spec.loader.exec_module(module)
    return module


CONSOLE = _module()
ROOT = CONSOLE.ROOT
PAGES = {page.relative_to(ROOT).as_posix(): page.read_text("utf-8") for page in CONSOLE.pages()}
BLOCKS = {name: CONSOLE.blocks(text) for name, text in PAGES.items()}
GROUPS = {
    f"{name}-{number}": group
    for name, blocks in BLOCKS.items()
    for number, group in enumerate(CONSOLE.groups(blocks), 1)
}
#: What looks like a command in a block of another language.
_LOOSE = re.compile(r"^(\$ |porter [a-z]+ |pip3? install |python3? \S+\.py|git [a-z]+ )")


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize("name", GROUPS)
def test_commands_do_what_the_page_says(name: str, tmp_path: Path) -> None:
    start, group = GROUPS[name]
    missing = {need for block in group for need in block.needs if not _installed(need)}
    blocks = [b for b in group if not b.not_run and missing.isdisjoint(b.needs)]
    if not blocks:
        pytest.skip(f"needs {', '.join(missing)}" if missing else "marked as not run")
    outcomes = CONSOLE.run(start, blocks, tmp_path)
    problems = [problem for outcome in outcomes if (problem := outcome.problem())]
    assert not problems, "\n\n".join(problems)


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def test_what_is_not_run_has_a_reason() -> None:
    for name, blocks in BLOCKS.items():
        for block in blocks:
            if block.not_run:
                assert block.not_run.startswith(CONSOLE.REASONS), f"{name}:{block.line}"


def test_few_commands_are_not_run() -> None:
    ran = left = 0
    for blocks in BLOCKS.values():
        for block in blocks:
            ran, left = (ran, left + 1) if block.not_run else (ran + 1, left)
    assert ran > 3 * left, "see python tests/console.py"


@pytest.mark.parametrize("name", PAGES)
def test_no_command_hides_in_a_block_of_another_language(name: str) -> None:
    for line, language, body, _ in CONSOLE.fences(PAGES[name]):
        if language in CONSOLE.LANGUAGES:
            continue
        assert language not in ("", "bash", "shell"), f"{name}:{line}: mark it sh, console or text"
        for text in body if language == "text" else ():
            # A program's usage is no command: porter check [OPTIONS] PATH
            assert not _LOOSE.match(text) or "[" in text, f"{name}:{line}: mark it console: {text}"


# The reader of pages ----------------------------------------------------------------------------

PAGE = """\
<!-- start: empty -->

```console
$ echo one
one
$ false
$ echo $?
1
```

Text.

<!-- not run: installs packages -->
```sh
pip install x   # a remark
```

```python
print("$ no command")
```

<!-- start: sample -->

1. In a list:

    ```sh
    # only a remark
    touch \\
      a
    ls a
    ```

<!-- before:
echo x > made
-->
<!-- needs: torch, onnx -->

```console
$ cat made
x
```
"""


def test_blocks_are_found_with_what_is_said_of_them() -> None:
    first, second, third, fourth = CONSOLE.blocks(PAGE)
    assert [(c.text, c.shown) for c in first.commands] == [
        ("echo one", ("one",)),
        ("false", ()),
        ("echo $?", ("1",)),
    ]
    assert (first.start, second.start, third.start, fourth.start) == ("empty", "", "sample", "")
    assert (first.not_run, second.not_run) == ("", "installs packages")
    assert [c.text for c in third.commands] == ["touch \\\n  a", "ls a"]
    assert [(c.text, c.hidden) for c in fourth.commands] == [
        ("echo x > made", True),
        ("cat made", False),
    ]
    assert fourth.needs == ("torch", "onnx")
    groups = CONSOLE.groups([first, second, third, fourth])
    assert [(start, len(blocks)) for start, blocks in groups] == [("empty", 2), ("sample", 2)]


def test_a_remark_belongs_to_the_block_right_below_it() -> None:
    text = "<!-- not run: takes minutes -->\nText in between.\n\n```sh\nls\n```\n"
    assert CONSOLE.blocks(text)[0].not_run == ""


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        (["a", "b"], "a\nb\n", True),
        (["a", "b"], "a  \nb\n\n", True),
        (["a"], "a\nb\n", False),
        (["b"], "a\nb\n", False),
        (["a", "...", "d"], "a\nb\nc\nd\n", True),
        (["a", "...", "d"], "a\nd\n", True),
        (["a", "...", "x"], "a\nb\nc\nd\n", False),
        (["took ... s"], "took 1.5 s\n", True),
        (["took ... s"], "took\n1.5 s\n", False),
        (["x.y"], "xzy\n", False),
    ],
)
def test_dots_stand_for_what_is_left_out(shown: list[str], printed: str, same: bool) -> None:
    assert CONSOLE.matches(shown, printed) is same


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_a_lie_is_found(tmp_path: Path) -> None:
    text = (
        "<!-- start: empty -->\n```console\n$ echo one\ntwo\n$ cd /none\n$ porter nonsense\n```\n"
    )
    (group,) = CONSOLE.groups(CONSOLE.blocks(text))
    problems = [outcome.problem() for outcome in CONSOLE.run(*group, tmp_path)]
    assert "the page shows:\ntwo\nit printed:\none" in problems[0]
    assert "exited with 1" in problems[1]
    assert "exited with 2" in problems[2]


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_a_shell_that_ends_early_is_an_error(tmp_path: Path) -> None:
    (group,) = CONSOLE.groups(CONSOLE.blocks("<!-- start: empty -->\n```sh\nexit 0\nls\n```\n"))
    with pytest.raises(RuntimeError, match="ended early"):
        CONSOLE.run(*group, tmp_path)
