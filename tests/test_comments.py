"""Comments in files other than Python: where they stand, what they cover, and adding them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from porter.annotate import with_comments
from porter.comments import language, mark, same
from porter.ignores import add
from porter.report import SiteReport
from porter.rule import Category, Safety, Status
from porter.suppress import Suppressions
from porter.text_site import TextFile

CODE = "POR851"
HERE = "porter: ignore[POR851]"


def covered(path: str, text: str) -> list[int]:
    found = Suppressions.read_file(TextFile(text, path))
    return [n for n in range(1, text.count("\n") + 2) if found.covers(CODE, n)]


@pytest.mark.parametrize(
    ("path", "text", "lines"),
    [
        ("a.sh", f"a=1 # {HERE}\nb=2\n", [1]),
        ("a.sh", f"# {HERE}\n\n# more\na=1\nb=2\n", [4]),
        ("a.sh", f"# {HERE}\na \\\n  b \\\n  c\nd\n", [2, 3, 4]),
        ("a.sh", f"a \\\n  b # {HERE}\nc\n", [1, 2]),
        ("a.sh", f"cat <<E # {HERE}\nx\nE\ny\n", [1, 2, 3]),
        ("a.sh", f"cat <<E\n# {HERE}\nE\n", []),
        ("a.sh", f'echo "# {HERE}"\n', []),
        ("a.sh", f"echo a#{HERE}\n", []),
        ("a.sh", f"#SBATCH --gres=gpu:1 # {HERE}\na\n", [1]),
        ("a.sh", f"# {HERE}\n#SBATCH --gres=gpu:1\na\n", [2]),
        ("a.sh", "# porter: file-ignore[POR851]\na\nb\n", [1, 2, 3, 4]),
        ("a.yml", f"a: 1  # {HERE}\nb: 2\n", [1]),
        ("a.yml", f"a: '# {HERE}'\n", []),
        ("a.yml", f"a: 'x\n  # {HERE}\n  y'\n", []),
        ("a.yml", f"a: x#{HERE}\n", []),
        ("a.yml", f"# {HERE}\na: |\n  x\n  y\nb: 1\n", [2, 3, 4]),
        ("a.yml", f"a: |  # {HERE}\n  x\n  y\nb: 1\n", [1, 2, 3]),
        ("a.yml", f"a: |\n  x  # {HERE}\n  y\nb: 1\n", [2]),
        ("a.yml", f"a: |\n  # {HERE}\n  y\n  z\nb: 1\n", [3]),
        ("a.yml", f"{{% if x %}}\na: b  # {HERE}\n", [2]),
        ("a.toml", f"a = '''\n# {HERE}\n'''\n", []),
        ("a.toml", f"a = 1 # {HERE}\nb = ['#', 'x'] # {HERE}\n", [1, 2]),
        ("a.toml", f"# {HERE}\na = '''\nx\n'''\n", [2, 3, 4]),
        ("Dockerfile", f"# {HERE}\nRUN a && \\\n    b\nRUN c\n", [2, 3]),
        ("Dockerfile", f"RUN a && \\\n# {HERE}\n    b && \\\n    c\n", [3]),
        ("requirements.txt", f"torch  # {HERE}\nx#{HERE}\n", [1]),
        ("requirements.txt", f"# {HERE}\ntorch \\\n  --hash=x\ny\n", [2, 3]),
        ("Makefile", f"# {HERE}\na:\n\tx \\\n\ty\n", [2]),
        ("setup.cfg", f"[a]\n# {HERE}\nb = c\n", [3]),
        ("CMakeLists.txt", f'set(a "# {HERE}") # {HERE}\nset(b)\n', [1]),
        ("CMakeLists.txt", f"set(a [[\n# {HERE}\n]])\n", []),
        ("a.cu", f"f();  // {HERE}\ng();\n", [1]),
        ("a.cu", f'f("// {HERE}");\n', []),
        ("a.cu", f"/* // {HERE} */ f();\n", []),
        ("a.cu", f"// {HERE}\n#define A \\\n  b\nc\n", [2, 3]),
        ("a.cu", f'x = R"d(\n// {HERE}\n)d";\n', []),
        ("a.json", f'{{"a": 1}} // {HERE}\n', [1]),
    ],
)
def test_lines_covered(path: str, text: str, lines: list[int]) -> None:
    assert covered(path, text) == lines


def test_blanket_comments_hide_nothing() -> None:
    found = Suppressions.read_file(TextFile("a=1 # porter: ignore\n", "a.sh"))
    assert not found
    assert found.malformed == (1,)


ADDED = [
    ("a.sh", "a=1\n", 1, f"a=1  # {HERE}\n"),
    ("a.sh", "a \\\n  b\n", 1, f"# {HERE}\na \\\n  b\n"),
    ("a.sh", "if x; then\n  a \\\n    b\nfi\n", 2, f"if x; then\n  # {HERE}\n  a \\\n    b\nfi\n"),
    ("a.sh", "a \\\n  b\nc\n", 2, f"a \\\n  b  # {HERE}\nc\n"),
    ("a.sh", "cat <<E\nx\nE\n", 2, f"# {HERE}\ncat <<E\nx\nE\n"),
    ("a.sh", "a=1 # why\n", 1, f"a=1 # why  # {HERE}\n"),
    ("a.sh", "#!/bin/sh\n#SBATCH --gres=gpu:1\n", 2, f"#!/bin/sh\n# {HERE}\n#SBATCH --gres=gpu:1\n"),
    (".env", "A=1\n", 1, f"# {HERE}\nA=1\n"),
    ("a.yml", "- run: |\n    a\n    b\n", 3, f"# {HERE}\n- run: |\n    a\n    b\n"),
    ("a.yml", 'a: "x\n  y"\n', 1, f'# {HERE}\na: "x\n  y"\n'),
    ("a.yml", "a: {b: c,\n  d: e}\r\n", 2, f"a: {{b: c,\n  d: e}}  # {HERE}\r\n"),
    ("a.toml", "a = [\n  'b',\n]\n", 2, f"a = [\n  'b',  # {HERE}\n]\n"),
    ("a.toml", "a = '''\nb'''\n", 1, f"# {HERE}\na = '''\nb'''\n"),
    ("a.toml", "a = '''\nb'''\n", 2, f"a = '''\nb'''  # {HERE}\n"),
    ("Dockerfile", "FROM a\nRUN b && \\\n  c\n", 3, f"FROM a\n# {HERE}\nRUN b && \\\n  c\n"),
    ("requirements.txt", "a==1 \\\n  --hash=b\n", 1, f"# {HERE}\na==1 \\\n  --hash=b\n"),
    ("requirements.txt", "a==1", 1, f"a==1  # {HERE}"),
    ("Makefile", "a:\n\tb \\\n\tc\n", 3, f"a:\n# {HERE}\n\tb \\\n\tc\n"),
    ("setup.cfg", "[a]\nb =\n    c\n", 3, f"[a]\nb =\n    # {HERE}\n    c\n"),
    ("CMakeLists.txt", "set(a b)\n", 1, f"set(a b)  # {HERE}\n"),
    ("a.cu", "f();\n", 1, f"f();  // {HERE}\n"),
    ("a.cu", "#define A \\\n  b\n", 2, f"#define A \\\n  b  // {HERE}\n"),
    ("a.cu", "#define A \\\n  b\n", 1, f"// {HERE}\n#define A \\\n  b\n"),
    ("a.cu", "// why\nf();\n", 1, "// porter: file-ignore[POR851]\n// why\nf();\n"),
    ("a.jsonc", '{"a": 1}\n', 1, f'{{"a": 1}}  // {HERE}\n'),
    ("a.json", '{"a": 1}\n', 1, None),
    ("notes", "a\n", 9, None),
]  # fmt: skip


@pytest.mark.parametrize(("path", "before", "line", "after"), ADDED)
def test_added(path: str, before: str, line: int, after: str | None) -> None:
    assert add(before, {line: [CODE]}, path) == after


@pytest.mark.parametrize(("path", "before", "line", "_"), [a for a in ADDED if a[3]])
def test_todo_comments_come_and_go(path: str, before: str, line: int, _: str) -> None:
    site = SiteReport(
        path, line, 1, CODE, Status.LEFT, Safety.MANUAL, Category.POTENTIAL, 1, reason="do it\\"
    )
    text = with_comments(before, {line: [site]}, path)
    assert text is not None
    assert f"{mark(TextFile(before, path))} porter: TODO[POR851] do it\n" in text.replace("\r", "")
    assert same(TextFile(before, path), TextFile(text, path))
    assert with_comments(text, {}, path) == before.replace("a==1", "a==1")


def test_languages() -> None:
    named = {
        "a/b.py": "python", "a.pyw": "python", "run": "python", "n.ipynb": "notebook",
        "Dockerfile": "dockerfile", "Makefile": "make", "a.cu": "native", "a.md": "text",
    }  # fmt: skip
    assert {path: language(path) for path in named} == named


# The command line -------------------------------------------------------------------------------

FILES = {
    "requirements.txt": "torch==2.9.0+cu126\ncupy-cuda12x\n",
    "run.sh": "#!/bin/bash\nexport CUDA_VISIBLE_DEVICES=0\nnvidia-smi | \\\n  grep x\n",
    "ci.yml": "jobs:\n  a:\n    container: nvidia/cuda:12.1-base\n    steps:\n      - run: |\n"
    "          nvidia-smi\n",
    "Dockerfile": "FROM nvidia/cuda:12.1.0-devel\nENV CUDA_HOME=/usr/local/cuda\n"
    "RUN true && \\\n    nvidia-smi\n",
    "k.cu": "// kernels\n__global__ void f(float *x) {\n  x[0] = 1;\n}\n",
    "settings.toml": 'device = "cuda"\n',
    "Makefile": "all:\n\tnvidia-smi\n",
}


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "porter", *arguments],
        cwd=cwd, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def written(folder: Path) -> dict[str, str]:
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return dict(FILES)


def found(folder: Path) -> list[tuple[str, str]]:
    """File and message of each finding."""
    lines = run("check", ".", "-q", cwd=folder).stdout.splitlines()
    return sorted((line.split(":")[0], line.split(" ", 1)[1]) for line in lines)


def tree(folder: Path) -> dict[str, str]:
    return {p.name: p.read_bytes().decode() for p in folder.iterdir() if p.is_file()}


def test_bulk_in_every_format(tmp_path: Path) -> None:
    written(tmp_path)
    names = {name for name, _ in found(tmp_path)}
    assert names == set(FILES)
    done = run("check", ".", "--add-ignores", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert found(tmp_path) == []
    (tmp_path / "settings.toml").write_text('device = "auto"  # porter: ignore[POR861] was cuda\n')
    (tmp_path / "k.cu").write_text("")
    (tmp_path / "k.cpp").write_text("// porter: ignore\nint f();\n")
    said = found(tmp_path)
    assert said == [
        ("k.cpp", "POR002 blanket-suppression: names no rule, so it hides nothing; write "
         "`// porter: ignore[CODE] reason`"),
        ("settings.toml", "POR001 unused-suppression: POR861 silences nothing here; take it out"),
    ]  # fmt: skip


def test_json_has_no_comments(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"device": "cuda"}\n')
    done = run("check", ".", "--add-ignores", cwd=tmp_path)
    assert done.returncode == 2
    assert "a.json: this format has no comments; use a baseline or per-file-ignores" in done.stderr
    done = run("migrate", ".", "--annotate", "--allow-dirty", cwd=tmp_path)
    assert "a.json: no TODO comment was left here: its format has no comments" in done.stderr


def test_todo_comments_in_every_format(tmp_path: Path) -> None:
    written(tmp_path)
    options = ("migrate", ".", "--allow-dirty", "-q")
    run(*options, cwd=tmp_path)
    plain, before = tree(tmp_path), found(tmp_path)
    run(*options, "--annotate", cwd=tmp_path)
    marked = tree(tmp_path)
    assert all("porter: TODO[" in marked[name] for name, _ in before)
    assert found(tmp_path) == before, "what porter writes hides nothing"
    run(*options, "--annotate", cwd=tmp_path)
    assert tree(tmp_path) == marked
    run(*options, "--no-annotate", cwd=tmp_path)
    assert tree(tmp_path) == plain


def test_notebooks(tmp_path: Path) -> None:
    sample = Path(__file__).parent.parent / "fixtures" / "sample"
    (notebook,) = sample.rglob("*.ipynb")
    shutil.copy(notebook, tmp_path / "n.ipynb")
    assert len(found(tmp_path)) > 1
    done = run("check", ".", "--add-ignores", cwd=tmp_path)
    assert "n.ipynb: commands in cells take no comments" in done.stderr
    (left,) = found(tmp_path)
    assert "POR852" in left[1], "the command"
    assert run("migrate", ".", "--diff", "-q", cwd=tmp_path).stdout == ""
