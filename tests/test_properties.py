"""What must hold for every file: it compiles, a second run is empty, comments stay."""

from __future__ import annotations

import io
import os
import random
import sys
import sysconfig
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from porter import catalog, engine
from porter.rule import Status
from porter.scan import may_match
from porter.source import SourceProblem, decode_python
from porter.syntax import SyntaxProblem
from porter.targets import NAMES, Target

CATALOG = catalog.load()
#: How many files of the standard library the normal suite looks at; PORTER_SLOW=1 takes all.
SAMPLE = 150


def library_files() -> list[Path]:
    files = sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"))
    files = [f for f in files if "site-packages" not in f.parts]
    if os.environ.get("PORTER_SLOW"):
        return files
    return random.Random(7).sample(files, SAMPLE)


def corpus_files() -> Iterator[Path]:
    """Files of the folder in PORTER_CORPUS, such as the one docs/tools/corpus.py fills."""
    folder = os.environ.get("PORTER_CORPUS")
    if folder:
        yield from sorted(Path(folder).rglob("*.py"))


def prose(text: str) -> list[str]:
    """Comments, and strings that are statements of their own (docstrings)."""
    found = []
    previous = tokenize.NEWLINE
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            starts = previous in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
            if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and starts):
                found.append(token.string)
            if token.type not in (tokenize.NL, tokenize.COMMENT):
                previous = token.type
    except (tokenize.TokenError, SyntaxError):
        pass
    return found


def check(text: str, target: str, unsafe: bool = False, path: str = "a.py") -> engine.Outcome:
    goal = Target(target)
    outcome = engine.analyse(text, CATALOG, goal, path=path, unsafe=unsafe)
    assert outcome.problem == "", f"{path}: {outcome.problem}"
    rewritten = [s for s in outcome.settled if s.status is Status.REWRITTEN]
    if not rewritten:
        assert outcome.text == text, f"{path}: changed without a rewritten site"
        return outcome
    assert prose(outcome.text) == prose(text), f"{path}: a comment or docstring changed"
    again = engine.analyse(outcome.text, CATALOG, goal, path=path, unsafe=unsafe)
    assert again.text == outcome.text, f"{path}: a second run changed something"
    return outcome


def check_file(file: Path) -> int:
    """Check one file for both targets; return how many sites were rewritten."""
    data = file.read_bytes()
    try:
        source = decode_python(file.name, data)
    except SourceProblem:
        return 0
    count = 0
    for target in NAMES:
        for unsafe in (False, True):
            try:
                outcome = check(source.text, target, unsafe, str(file))
            except SyntaxProblem:
                return 0
            count += sum(s.status is Status.REWRITTEN for s in outcome.settled)
            source.encode(outcome.text)
    if count:
        assert may_match(data, CATALOG.marker), f"{file}: the scan would have skipped it"
    return count


def test_standard_library() -> None:
    files = library_files()
    assert len(files) >= SAMPLE
    for file in files:
        check_file(file)


def test_corpus() -> None:
    files = list(corpus_files())
    if not files:
        pytest.skip("set PORTER_CORPUS to a folder of Python files")
    assert sum(map(check_file, files)) > 0


# Programs made of CUDA-isms in arbitrary places -------------------------------------------------

IMPORTS = [
    "import torch",
    "import torch as th",
    "from torch import cuda",
    "import torch.cuda as tc",
    "from torch.cuda.amp import autocast, GradScaler",
    "import torch.distributed as dist",
    "import torch.backends.cudnn as cudnn",
    "import os",
]
EXPRESSIONS = [
    "x.cuda()",
    "x.cuda(0)",
    "x.cuda(non_blocking=True)",
    'x.to("cuda")',
    'x.to(f"cuda:{i}")',
    'torch.device("cuda")',
    'torch.device("cuda", i)',
    'torch.device("cuda:0" if torch.cuda.is_available() else "cpu")',
    'torch.zeros(1, device="cuda")',
    "torch.cuda.is_available()",
    "torch.cuda.device_count()",
    "torch.cuda.memory_allocated()",
    "torch.cuda.current_stream()",
    "torch.cuda.get_device_capability()",
    "torch.cuda.FloatTensor([1.0])",
    "th.cuda.synchronize()",
    "cuda.Stream()",
    "tc.max_memory_allocated() / 2**30",
    "x.is_cuda",
    "not x.is_cuda",
    'x.device.type == "cuda"',
    'device in ("cuda", "cpu")',
    'str(device).startswith("cuda")',
    "torch.backends.cudnn.benchmark",
    'dist.get_backend() == "nccl"',
    'os.environ.get("CUDA_VISIBLE_DEVICES")',
    "GradScaler(enabled=True)",
    '"barracuda"',
    "i",
]
SHAPES = [
    "{a}",
    "y = {a}",
    "f({a}, device={b})",
    "y = ({a}) if {b} else {c}",
    "y = [{a} for i in range(3) if {b}]",
    "y = lambda i: {a}",
    "assert {a}, {b}",
    "y = {{'device': {a}, 'k': {b}}}",
    "y = {a} and {b} or not {c}",
    "print(f'{{{a}}}')",
    "return {a}",
    "y = ({a},\n     {b})  # cuda here",
    "x = {a}; y = {b}",
    "del y",
]
STATEMENTS = st.builds(
    lambda shape, a, b, c: shape.format(a=a, b=b, c=c),
    st.sampled_from(SHAPES),
    st.sampled_from(EXPRESSIONS),
    st.sampled_from(EXPRESSIONS),
    st.sampled_from(EXPRESSIONS),
)
GUARDS = [
    "if torch.cuda.is_available():",
    'if device.type == "cuda":',
    "for i in range(2):",
    "with autocast():",
    "try:",
    "while x.is_cuda:",
    "if use_cuda:",
]


@st.composite
def programs(draw: st.DrawFn) -> str:
    newline = draw(st.sampled_from(["\n", "\n", "\n", "\r\n"]))
    indent = draw(st.sampled_from(["    ", "\t", "  "]))
    lines = draw(st.lists(st.sampled_from(IMPORTS), unique=True, min_size=1))
    if draw(st.booleans()):
        lines.insert(0, '"""cuda docs"""')
    lines += [
        "",
        draw(st.sampled_from(["def f(x, device, i=0):", 'def f(x, i=0, device="cuda"):'])),
    ]
    for _ in range(draw(st.integers(1, 4))):
        block = draw(st.lists(STATEMENTS, min_size=1, max_size=3))
        depth = 1
        guard = draw(st.sampled_from([None, *GUARDS]))
        if guard:
            lines.append(indent + guard)
            depth = 2
        lines += [indent * depth + part for s in block for part in s.split("\n")]
        if guard == "try:":
            lines += [indent + "finally:", indent * 2 + "pass"]
    end = draw(st.sampled_from([newline, ""]))
    return newline.join(lines) + end


@settings(max_examples=400 if os.environ.get("PORTER_SLOW") else 120, deadline=None)
@given(programs(), st.sampled_from(NAMES), st.booleans())
def test_made_up_programs(text: str, target: str, unsafe: bool) -> None:
    try:
        compile(text, "<made up>", "exec", dont_inherit=True)
    except SyntaxError:
        return
    check(text, target, unsafe)


if sys.version_info < (3, 12):
    # The same quotes cannot be nested in an f-string before 3.12.
    SHAPES.remove("print(f'{{{a}}}')")
    SHAPES.append('print(f"{{x.cuda()}}")')
