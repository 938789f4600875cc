"""Files other than Python: readers, bad input, comments, and a small project from end to end."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from porter import catalog
from porter.config import Settings
from porter.dockerfile import DockerfileProblem, instructions
from porter.native import callers, exports
from porter.report import FileStatus
from porter.rule import Status
from porter.runner import Request, Run, run
from porter.scalars import DataProblem
from porter.scalars import read as read_scalars
from porter.shell import ShellProblem, effective
from porter.shell import read as read_shell
from porter.targets import Target
from porter.text import analyse_text, rules_for, wants
from porter.text_site import TextFile, TextProblem, kind_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FIXTURE = Path(__file__).parent.parent / "fixtures" / "artefacts"
CATALOG = catalog.load()
TEXT_RULES = ("POR004", "POR83", "POR84", "POR85", "POR86", "POR87", "POR88", "POR89")


def migrated(folder: Path, target: str = "npu", *, unsafe: bool = False, jobs: int = 1) -> Run:
    settings = replace(Settings(), target=target, select=TEXT_RULES, unsafe=unsafe)
    return run(Request((folder,), settings=settings, jobs=jobs))


# Kinds ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("requirements.txt", "requirements"),
        ("requirements/gpu.txt", "requirements"),
        ("a/requirements-dev.in", "requirements"),
        ("notes.txt", "text"),
        ("docker/Dockerfile.gpu", "dockerfile"),
        ("gpu.Dockerfile", "dockerfile"),
        ("a.slurm", "shell"),
        (".env", "shell"),
        ("x.yaml", "yaml"),
        ("Pipfile", "toml"),
        ("a.cuh", "native"),
        ("Makefile", "make"),
        ("CMakeLists.txt", "cmake"),
    ],
)
def test_kind(path: str, kind: str) -> None:
    assert kind_of(path) == kind


def test_python_and_plain_text_are_not_wanted() -> None:
    assert not any(wants(CATALOG, p) for p in ("a.py", "a.ipynb", "a.png", "notes.txt"))
    assert all(wants(CATALOG, p) for p in ("README.md", "a.bat", "uv.lock"))


# Shell ------------------------------------------------------------------------------------------


def commands(text: str) -> list[list[str]]:
    return [[w.value for w in (*c.assignments, *c.words)] for c in read_shell(text).commands]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b # c\n", [["a", "b"]]),
        ("a#b c\n", [["a#b", "c"]]),
        ("a \\\n  b\n", [["a", "b"]]),
        ("a \\\r\n  b\r\nc\r\n", [["a", "b"], ["c"]]),
        ("A=1 B='x y' c \"d e\"\n", [["A=1", "B=x y", "c", "d e"]]),
        ("a; b && c || d | e &\n", [["a"], ["b"], ["c"], ["d"], ["e"]]),
        ("if a; then b; else c; fi\n", [["a"], ["b"], ["c"]]),
        ("X=$(a b | c)\n", [["X=$(a b | c)"], ["a", "b"], ["c"]]),
        ("a `b c`\n", [["a", "`b c`"], ["b", "c"]]),
        ("X=(a\n b)\nc\n", [["X="], ["a", "b"], ["c"]]),
        ("cat <<EOF\na 'b\nEOF\nc\n", [["cat"], ["c"]]),
        ("cat <<-'EOF'\n\t$(a)\n\tEOF\nc\n", [["cat"], ["c"]]),
        ("cat <<EOF\n$(a)\nEOF\n", [["cat"], ["a"]]),
        ("((x++)); a $((1 + 2)) ${b:-$(c)}\n", [["a", "$((1 + 2))", "${b:-$(c)}"], ["c"]]),
        ("a > b 2>&1 < c\n", [["a"]]),
        ("case $1 in\n x) a;;\nesac\n", [["case", "$1", "in"], ["x"], ["a"]]),
    ],
)
def test_shell(text: str, expected: list[list[str]]) -> None:
    assert commands(text) == expected


def test_shell_offsets_and_output() -> None:
    text = "x=1 'a b' \"c\" | d > e\n"
    script = read_shell(text)
    assert [text[w.start : w.end] for w in script.commands[0].words] == ["'a b'", '"c"']
    assert [c.captured for c in script.commands] == [True, True]


@pytest.mark.parametrize("text", ["a 'b\n", 'a "b\n', "a $(b\n", "a `b\n", "a ${b\n"])
def test_shell_that_is_never_closed(text: str) -> None:
    with pytest.raises(ShellProblem):
        read_shell(text)


def test_deep_shell_is_refused() -> None:
    with pytest.raises(ShellProblem):
        read_shell("$(" * 5000)


@pytest.mark.parametrize(
    ("text", "program"),
    [
        ("sudo -u me env A=1 nice -n 5 x y\n", "x"),
        ("timeout -s KILL 10 x\n", "x"),
        ("command -v x\n", "command"),
        ("exec x\n", "x"),
    ],
)
def test_wrappers(text: str, program: str) -> None:
    assert effective(read_shell(text).commands[0])[1][0].value == program


# Dockerfile -------------------------------------------------------------------------------------


def test_dockerfile() -> None:
    text = (
        "# escape=`\nARG A=1\nFROM a`\n  AS b\nRUN x `\n # comment\n && y\n"
        'CMD ["p", "q r"]\nRUN <<EOF\nz 1\nEOF\nONBUILD RUN w\n'
    )
    found = instructions(text)
    assert [i.name for i in found] == ["ARG", "FROM", "RUN", "CMD", "RUN", "RUN"]
    assert [w.value for w in found[1].words] == ["a", "AS", "b"]
    said = [[w.value for w in c.words] for i in found[2:] for c in i.script.commands]
    assert said == [["x"], ["y"], ["p", "q r"], ["z", "1"], ["w"]]


def test_no_dockerfile() -> None:
    with pytest.raises(DockerfileProblem) as problem:
        instructions("FROM a\n\nhello there\n")
    assert problem.value.line == 3


# Scalars ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (
            "yaml",
            "a: [x, 'y', {b: \U0001f600 c}]\r\n---\nrun: |\n  x 1\n\n  y\nd: >-\n  e\n? [k]\n: z\nq: *r\n",
        ),
        ("json", '{"a": [1, "x\\n", {"b": null}], // c\n "d": "e", /* f */ }\n'),
        (
            "toml",
            'x.y = \'a\'\n[p]\nd = [ # c\n "t", \'l\', ]\n[[t]]\nn = {a = 1, "b c" = "d"}\n[[t]]\nm = """\nz"""\n',
        ),
        ("ini", "[options]\ninstall_requires =\n    a==1\n    b\nx = 1\n"),
    ],
)
def test_scalars_stand_where_they_say(kind: str, text: str) -> None:
    found = read_scalars(kind, text)
    assert found
    for scalar in found:
        if scalar.inner is not None and scalar.style in ("plain", "quoted"):
            assert text[slice(*scalar.inner)] == scalar.value
    assert [s.start for s in found] == sorted(s.start for s in found)


def test_scalars_agree_with_the_parsers() -> None:
    text = "a:\n  - b: 1\n    c: [x, y]\n  - z\nd: {e: f}\n"
    values = [(s.path, s.value) for s in read_scalars("yaml", text) if not s.is_key]
    assert values == [
        (("a", 0, "b"), "1"), (("a", 0, "c", 0), "x"), (("a", 0, "c", 1), "y"),
        (("a", 1), "z"), (("d", "e"), "f"),
    ]  # fmt: skip
    data = tomllib.loads('[a]\nb = ["c", {d = "e"}]\n')
    values = [
        (s.path, s.value)
        for s in read_scalars("toml", '[a]\nb = ["c", {d = "e"}]\n')
        if not s.is_key
    ]
    assert values == [(("a", "b", 0), data["a"]["b"][0]), (("a", "b", 1, "d"), "e")]


@pytest.mark.parametrize(
    ("kind", "text", "line"),
    [
        ("yaml", "a: 1\nb: {\n{% x %}\n", 3),
        ("yaml", "a: \x01\n", 1),
        ("yaml", "[" * 5000, 1),
        ("json", '{"a": 1,\n "b" 2}', 2),
        ("json", '{"a": "\\q"}', 1),
        ("toml", "a = 1\na = 2\nb = \n", 3),
        ("toml", "a = " + "[" * 5000, 1),
        ("ini", "[a]\nnonsense\n", 2),
    ],
)
def test_broken_data_names_its_line(kind: str, text: str, line: int) -> None:
    with pytest.raises(DataProblem) as problem:
        read_scalars(kind, text)
    assert kind in problem.value.message.lower()
    assert "\n" not in problem.value.message
    if kind != "toml" or "[" not in text:
        assert abs(problem.value.line - line) <= 1


def test_deep_json_does_not_recurse() -> None:
    text = "[" * 200 + '"x"' + "]" * 200
    assert [s.value for s in read_scalars("json", text)] == ["x"]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("json", '{"a":' * 100_000 + "1" + "}" * 100_000),
        ("yaml", "a: " + "[" * 20_000 + "]" * 20_000),
        ("toml", "a = " + "[" * 100_000 + "]" * 100_000),
        ("toml", "a." * 100_000 + "a = 1"),
        ("toml", "a = " + "[" * 210 + "1" + "]" * 210),
    ],
)
def test_what_is_nested_too_deeply_is_refused(kind: str, text: str) -> None:
    """Each scalar carries the keys above it: the time would grow with the square of the depth."""
    with pytest.raises(DataProblem, match=r"deep|depth|parts"):
        read_scalars(kind, text)


# C++ --------------------------------------------------------------------------------------------


def test_bindings_and_their_callers() -> None:
    text = (
        '// m.def("no", 1)\nPYBIND11_MODULE(x, m) {\n  m.def("add_one", &f, "add");\n}\n'
        'TORCH_LIBRARY(ns, m) {\n  m.def("scale(Tensor x) -> Tensor");\n  m.impl("scale", g);\n}\n'
        'const char* s = "m.def(\\"no\\")";\n'
    )
    found = exports(text)
    assert [(e.module, e.name) for e in found] == [("", "add_one"), ("ns", "scale")]
    python = (
        b"from . import x_ext as ops\ndef scale(x): pass\ny = ops.add_one(1)\n"
        b"z = torch.ops.ns.scale(y)\nadd_one(2)\nother.scale(3)  # ops.scale(4)\n"
    )
    assert callers([e.name for e in found], [("a.py", python)]) == {
        "add_one": ["a.py:3"], "scale": ["a.py:4"],
    }  # fmt: skip


# The engine -------------------------------------------------------------------------------------


def analysed(path: str, text: str, target: str = "npu") -> list[tuple[str, int]]:
    outcome = analyse_text(text, CATALOG, Target(target), path)
    return [(s.finding.rule, s.line) for s in outcome.settled]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a.sh", "export CUDA_VISIBLE_DEVICES=0  # porter: ignore[POR851] on purpose\n"),
        ("a.sh", "# porter: ignore[POR851] on purpose\nexport CUDA_VISIBLE_DEVICES=0\n"),
        ("a.yaml", "# porter: file-ignore[POR86] on purpose\na: 1\ndevice: cuda\n"),
        ("a.cu", "// porter: ignore[POR881] replaced elsewhere\n__global__ void f() {}\n"),
    ],
)
def test_comments_silence(path: str, text: str) -> None:
    outcome = analyse_text(text, CATALOG, Target("npu"), path)
    assert (outcome.text, outcome.settled, outcome.suppressed) == (text, (), 1)


def test_line_ends_stay() -> None:
    text = "a: 1\r\ndevice: cuda\r\n# c\r\nbackend: nccl"
    outcome = analyse_text(text, CATALOG, Target("npu"), "a.yaml")
    assert outcome.text == "a: 1\r\ndevice: npu\r\n# c\r\nbackend: hccl"


def test_what_is_no_match() -> None:
    text = (
        "#!/bin/bash\n# nvidia-smi\necho 'use --device cuda and nvidia-smi'\n"
        "cd barracuda && git clone https://github.com/x/cuda-samples\n"
        "python barracuda.py --name cuda --out /data/cuda\nCUDAX=1 ./run_cuda\n"
    )
    assert analysed("a.sh", text) == []


def test_a_file_is_proven_after_its_change(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = next(r for r in CATALOG.rules if r.code == "POR861")

    def breaking(site, target):  # type: ignore[no-untyped-def]
        at = site.text.index("cuda")
        yield site.replace((at, at + 4), "x: y: z")

    broken = replace(CATALOG, rules=(replace(rule, check=breaking),))
    outcome = analyse_text("a: cuda\nb: 1\n", broken, Target("npu"), "a.yaml")
    assert outcome.text == "a: cuda\nb: 1\n"
    assert "would not parse" in outcome.problem
    assert [s.status for s in outcome.settled] == [Status.LEFT]


def test_named_after_a_device() -> None:
    pinned = "torch==2.7.1+cu128\n"
    for path, unsafe, expected in [
        ("requirements.txt", False, "torch==2.7.1\n"),
        ("requirements-gpu.txt", False, pinned),
        ("requirements-cuda.txt", False, pinned),
        ("requirements-cuda.txt", True, "torch==2.7.1\n"),
        ("requirements-rocm.txt", True, pinned),
    ]:
        outcome = analyse_text(pinned, CATALOG, Target("npu"), path, unsafe=unsafe)
        assert outcome.text == expected, path


def test_every_rule_bears_any_text() -> None:
    """Nothing but `TextProblem` may come out, whatever a file holds."""
    pieces = [
        "", "\n", "#", "'", '"', "$(", "`", "${", "<<EOF\n", "\\", "[", "{", "a:", "- b", "FROM", "RUN \\\n",
        "torch==", "+cu128", "CUDA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES=", "env\n", "sudo", "nvidia-smi |",
        "docker run --gpus", "--device cuda", "device: cuda", '{"device": "cuda"', "PYBIND11_MODULE(", "__global__",
        "https://download.pytorch.org/whl/cu128", "\u2028", "\x0b", "\ufeff",
    ]  # fmt: skip
    names = ["requirements.txt", "Dockerfile", "a.sh", "a.yaml", "a.json", "a.toml", "setup.cfg",
             "Makefile", "CMakeLists.txt", "a.cu", "a.cpp", ".github/workflows/a.yml", "environment.yml"]  # fmt: skip
    for name in names:
        assert rules_for(CATALOG, name)
        for first in pieces:
            for second in pieces:
                for target in ("npu", "accelerator"):
                    text = f"{first}{second}\n"
                    try:
                        outcome = analyse_text(text, CATALOG, Target(target), name, unsafe=True)
                    except TextProblem:
                        continue
                    assert outcome.problem == ""


# Bad files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.yaml", b"a: 1\nb: {\n  device: cuda\n", "not valid YAML"),
        ("a.json", b'{"device": "cuda",,}', "not valid JSON"),
        ("conf.toml", b'[run]\ndevice = ["cuda"\n', "not valid TOML"),
        ("a.sh", b"echo 'never closed\nnvidia-smi\n", "not understood as shell"),
        ("Dockerfile", b"this is about cuda\n", "not a Dockerfile"),
        ("a.yml", b"device: cuda\n\0\0\xff", "NUL bytes"),
        ("b.sh", "# \u4f60\nexport CUDA_VISIBLE_DEVICES=0\n".encode("gbk"), "not valid utf-8"),
        ("requirements.txt", "torch==2.7.1+cu128\n".encode("utf-16"), "UTF-16"),
        ("big.json", b'{"device": "cuda", "x": "' + b"x" * 1_000_001 + b'"}', "taken for data"),
    ],
)
def test_bad_input_is_one_finding(tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(data)
    (tmp_path / "good.sh").write_bytes(b"nvidia-smi\n")
    done = migrated(tmp_path)
    status = {f.path: (f.status, f.reason) for f in done.report.files}
    assert status[name][0] is FileStatus.SKIPPED
    assert reason in status[name][1]
    (site,) = [s for s in done.report.sites if s.path == name]
    assert (site.rule, site.status) == ("POR004", Status.LEFT)
    assert reason in site.reason
    assert [c.path for c in done.changed] == ["good.sh"], "other files are migrated all the same"
    assert done.traces == ()


def test_a_huge_file_is_named_and_not_read(tmp_path: Path) -> None:
    (tmp_path / "huge.json").write_bytes(b'{"device": "cuda", "x": "' + b"x" * 50_000_000 + b'"}')
    done = migrated(tmp_path)
    (file,) = done.report.files
    assert file.status is FileStatus.SKIPPED
    assert "larger than 10 MB" in file.reason
    named = migrated(tmp_path / "huge.json")
    assert [s.rule for s in named.report.sites] == ["POR004"]


def test_broken_files_about_something_else_are_silent(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: {\n{% if x %}\n")
    (tmp_path / "b.json").write_text("{nothing here")
    assert migrated(tmp_path).report.sites == ()


def test_a_byte_order_mark_stays(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfdevice: cuda  # \xc3\xa9\r\n")
    (only,) = migrated(tmp_path).changed
    assert only.after == b"\xef\xbb\xbfdevice: npu  # \xc3\xa9\r\n"


# A project --------------------------------------------------------------------------------------


def listing(done: Run) -> str:
    sites = done.report.sites
    return "".join(
        f"{s.path}:{s.place} {s.rule} {s.status.value} {s.category.value}\n" for s in sites
    )


@pytest.mark.parametrize("target", ["npu", "accelerator"])
def test_project(target: str) -> None:
    done = migrated(FIXTURE / "before", target)
    found = listing(done)
    expected = FIXTURE / f"findings-{target}.txt"
    folder = FIXTURE / target
    if os.environ.get("PORTER_UPDATE_FIXTURES"):
        expected.write_text(found)
        shutil.rmtree(folder, ignore_errors=True)
        for changed in done.changed:
            place = folder / changed.path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(changed.after)
    assert found == expected.read_text()
    written = {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }
    assert {c.path: c.after for c in done.changed} == written
    assert done.traces == ()


def test_project_again_changes_nothing(tmp_path: Path) -> None:
    shutil.copytree(FIXTURE / "before", tmp_path / "p")
    for unsafe in (False, True):
        for changed in migrated(tmp_path / "p", unsafe=unsafe).changed:
            (tmp_path / "p" / changed.path).write_bytes(changed.after)
        assert migrated(tmp_path / "p", unsafe=unsafe).changed == ()


def test_project_keeps_its_structure() -> None:
    """Comments and the order of keys stay; only the values that were meant differ."""
    before, after = FIXTURE / "before", FIXTURE / "npu"
    old = yaml.safe_load((before / "conf/train.yaml").read_text())
    new = yaml.safe_load((after / "conf/train.yaml").read_text())
    assert list(new) == list(old)
    assert new["model"]["device"] == "npu:0"
    old["model"]["device"] = "npu:0"
    old["model"]["alpha"]["device"] = "npu"
    old["dist_params"]["backend"] = "hccl"
    assert new == old
    assert json.loads((after / "conf/ds.json").read_text())["device"] == "npu"
    for path in after.rglob("*"):
        if path.suffix in (".yaml", ".yml", ".toml"):
            comments = [line.partition("#")[2] for line in path.read_text().splitlines()]
            source = (before / path.relative_to(after)).read_text().splitlines()
            assert comments == [line.partition("#")[2] for line in source], path.name


def test_processes_do_not_matter() -> None:
    one = migrated(FIXTURE / "before")
    assert listing(one) == listing(migrated(FIXTURE / "before", jobs=2))


def test_native_finding_names_its_callers() -> None:
    done = migrated(FIXTURE / "before")
    (site,) = [s for s in done.report.sites if s.path == "ops/bindings.cpp"]
    assert "add_scalar at ops/functional.py:15" in site.reason
    assert "scale_rows at ops/functional.py:19" in site.reason
    (kernel,) = [s for s in done.report.sites if s.path == "ops/add.cu"]
    assert (kernel.line, kernel.effort) == (4, 13)
    assert "1 CUDA kernel: add_kernel" in kernel.reason


def test_scripts_shown_to_rules_know_comments() -> None:
    file = TextFile("a # b\nc\n", "a.sh")
    assert file.script().comments == [(2, 5)]


def test_parameters_of_ci_are_no_here_documents() -> None:
    assert commands("a << parameters.b >>-c d\ne\n") == [["a", "<< parameters.b >>-c", "d"], ["e"]]


def test_options_kept_in_a_variable_are_seen() -> None:
    text = 'ARGS=" \\\n  --device cuda \\\n  --dist-backend nccl"\npython a.py $ARGS\n'
    outcome = analyse_text(text, CATALOG, Target("npu"), "a.sh", unsafe=True)
    assert outcome.text == text.replace("cuda", "npu").replace("nccl", "hccl")
    assert [s.line for s in outcome.settled] == [2, 3]
