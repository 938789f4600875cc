"""Comments that silence: added in bulk, and told of when they silence nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from porter.ignores import add


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "porter", *arguments],
        cwd=cwd, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("before", "line", "after"),
    [
        ("x = a\n", 1, "x = a  # porter: ignore[POR1]\n"),
        ("x = a", 1, "x = a  # porter: ignore[POR1]"),
        ("x = a\r\ny = b\r\n", 2, "x = a\r\ny = b  # porter: ignore[POR1]\r\n"),
        ("x = a  # why\n", 1, "x = a  # why  # porter: ignore[POR1]\n"),
        ("x = a  # porter: ignore[POR2] so\n", 1, "x = a  # porter: ignore[POR2, POR1] so\n"),
        ("x = a  # noqa: POR2\n", 1, "x = a  # noqa: POR2  # porter: ignore[POR2, POR1]\n"),
        ("if b:\n    x = '''\n'''\n", 2,
         "if b:\n    # porter: ignore[POR1]\n    x = '''\n'''\n"),
        ("x = a + \\\n    b\n", 1, "# porter: ignore[POR1]\nx = a + \\\n    b\n"),
        ("f(\n    a,\n    b,\n)\n", 2, "f(\n    a,  # porter: ignore[POR1]\n    b,\n)\n"),
        ("f(a, f'''\n{b}\n''', c)\n", 2, "# porter: ignore[POR1]\nf(a, f'''\n{b}\n''', c)\n"),
        ("@d\ndef f(x=a):\n    pass\n", 2,
         "@d\ndef f(x=a):  # porter: ignore[POR1]\n    pass\n"),
        ("x = '#'\n", 1, "x = '#'  # porter: ignore[POR1]\n"),
    ],
)  # fmt: skip
def test_added(before: str, line: int, after: str) -> None:
    assert add(before, {line: ["POR1"]}) == after


def test_what_cannot_be_read_is_left() -> None:
    assert add("x = (\n", {1: ["POR1"]}) is None
    assert add("x = 1\n", {7: ["POR1"]}) is None


def test_bulk(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        "import torch\n\n\ndef f(x, a, b='cuda'):\n    x = x.cuda(*a)\n"
        "    y = torch.zeros(\n        2,\n        device='cuda',\n    )\n    return x, y.cuda()\n"
    )
    (tmp_path / "latin.py").write_bytes(b"# coding: latin-1\nx = '\xe9'\nx.cuda()\n")
    sample = Path(__file__).parent.parent / "fixtures" / "sample"
    for path in sample.glob("*.py"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    before = run("check", ".", cwd=tmp_path)
    assert before.returncode == 1
    done = run("check", ".", "--add-ignores", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    after = run("check", ".", cwd=tmp_path)
    # An import is no finding any more once its uses are silenced.
    others = [line for line in after.stdout.splitlines() if "unused-suppression" not in line]
    assert (after.returncode, others) == (0, [])
    assert b"'\xe9'" in (tmp_path / "latin.py").read_bytes()
    again = run("check", ".", "--add-ignores", cwd=tmp_path)
    assert "0 findings silenced" in again.stderr


def test_comments_that_silence_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        "import torch\n"
        "x = torch.ones(1).cuda()  # porter: ignore[POR101]\n"
        "y = 1  # porter: ignore[POR101] it was here\n"
        "z = torch.ones(1).cuda()  # porter: ignore[POR101, POR102]\n"
        "w = 1  # noqa: E501, POR101\n"
        "v = 1  # porter: ignore[ABC999]\n"
    )
    (tmp_path / "b.py").write_text("# porter: file-ignore[POR101]\nx = 1\n")
    done = run("check", ".", cwd=tmp_path)
    found = [line.split(" unused-suppression: ") for line in done.stdout.splitlines()]
    assert [(place.split(":")[0] + ":" + place.split(":")[1], why) for place, why in found] == [
        ("a.py:3", "POR101 silences nothing here; take it out"),
        ("a.py:4", "POR102 silences nothing here; take it out"),
        ("a.py:5", "POR101 silences nothing here; take it out"),
        ("a.py:6", "ABC999 is the code of no rule; take it out"),
        ("b.py:1", "POR101 silences nothing here; take it out"),
    ]
    assert done.returncode == 0, "it may stay"
    narrow = run("check", ".", "--select", "POR001,POR102", cwd=tmp_path)
    assert "POR101" not in narrow.stdout, "the rule was not looked for"
    assert run("check", ".", "--ignore", "POR001", cwd=tmp_path).stdout == ""


# TODO comments ----------------------------------------------------------------------------------

LEFT = (
    "import torch\n\n\ndef f(x, device):\n    if device.type == 'cuda':\n        return x\n"
    "    elif device.type == 'mps':\n        x = torch.cuda.get_device_capability()\n    return x\n"
)


def tree(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.glob("*.py")}


def test_comments_come_and_go(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(LEFT)
    (tmp_path / "crlf.py").write_bytes(LEFT.replace("\n", "\r\n").encode())
    (tmp_path / "both.py").write_text(
        "import torch\n\n\ndef g(x, a):\n    y = x.cuda()\n    return y.cuda(*a), '''\n"
        "# porter: TODO[POR101] not a comment\n'''\n"
    )
    options = ("migrate", ".", "--allow-dirty")
    run(*options, cwd=tmp_path)
    plain = tree(tmp_path)
    done = run(*options, "--annotate", cwd=tmp_path)
    assert done.returncode == 1
    first = tree(tmp_path)
    assert "    # porter: TODO[POR103] this code tells" in first["a.py"].decode()
    assert "    # porter: TODO[POR101] " in first["both.py"].decode()
    assert first["crlf.py"] == first["a.py"].replace(b"\n", b"\r\n")
    lines = first["a.py"].decode().splitlines()
    at = next(n for n, line in enumerate(lines) if "TODO[POR103]" in line)
    assert lines[at + 1] == "    if device.type == 'cuda':"
    run(*options, "--annotate", cwd=tmp_path)
    assert tree(tmp_path) == first, "a second run changes nothing"
    run(*options, cwd=tmp_path)
    assert tree(tmp_path) == first, "they stay without the option"
    text = first["a.py"].decode().replace("torch.cuda.get_device_capability()", "(0, 0)")
    (tmp_path / "a.py").write_text(text)
    run(*options, "--annotate", cwd=tmp_path)
    assert "TODO[POR202]" not in (tmp_path / "a.py").read_text(), "it goes with its finding"
    (tmp_path / "a.py").write_bytes(first["a.py"])
    run(*options, "--no-annotate", cwd=tmp_path)
    assert tree(tmp_path) == plain


def test_the_patch_holds_the_comments_and_check_does_not_see_them(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(LEFT)
    done = run("migrate", ".", "--diff", "--annotate", cwd=tmp_path)
    assert "+    # porter: TODO[POR103]" in done.stdout
    assert (tmp_path / "a.py").read_text() == LEFT
    before = run("check", ".", "-q", cwd=tmp_path).stdout.splitlines()
    run("migrate", ".", "--allow-dirty", "--annotate", "--report", "r.json", cwd=tmp_path)
    after = run("check", ".", "-q", cwd=tmp_path).stdout.splitlines()
    assert [line.split(": ")[1:] for line in after] == [line.split(": ")[1:] for line in before]
    compared = run("check", ".", "--report", "now.json", "-q", cwd=tmp_path)
    assert compared.returncode == 1
    same = run("report", "--compare", "r.json", "now.json", "--fail-on", "new", cwd=tmp_path)
    assert same.returncode == 0, same.stdout


def test_annotations_name_present_lines(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(LEFT)
    run("migrate", ".", "--allow-dirty", "--annotate", "--report", "r.json", cwd=tmp_path)
    shown = run("report", "r.json", "-f", "github", cwd=tmp_path).stdout.splitlines()
    found = run("check", ".", "-q", cwd=tmp_path).stdout.splitlines()
    expected = sorted(line.split(":")[1] for line in found)
    assert sorted(line.split("line=")[1].split(",")[0] for line in shown) == expected


def test_what_porter_writes_is_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(LEFT)
    expected = run("check", ".", "-q", cwd=tmp_path).stdout
    run("check", ".", "--report", "r.json", cwd=tmp_path)
    run("check", ".", "--write-baseline", "b.json", cwd=tmp_path)
    for form in ("sarif", "rdjson"):
        run("report", "r.json", "-f", form, "-o", f"{form}.json", cwd=tmp_path)
    assert "torch.cuda" in (tmp_path / "sarif.json").read_text()
    assert run("check", ".", "-q", cwd=tmp_path).stdout == expected
