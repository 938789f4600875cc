"""A slice of docs/tools/fuzz_text.py with a fixed seed, and what it has found so far."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from random import Random
from types import ModuleType

import pytest

from porter import baseline, catalog, ignores, reading, requirements
from porter.around import Around, length
from porter.cli import start
from porter.config import ConfigProblem, load
from porter.notebook import Notebook
from porter.report import Report, as_data, assemble
from porter.shape import misfit
from porter.shell import read as read_shell
from porter.suppress import Suppressions
from porter.survey import Seen, View, look_at
from porter.targets import version
from porter.task import packed
from porter.text import analyse_text
from porter.text_site import TextFile

ROOT = Path(__file__).resolve().parents[1]
CATALOG = catalog.load()
EXAMPLES = [
    (rule, example)
    for rule in CATALOG.rules
    for example in rule.examples
    if rule.files and example.path
]


def tool() -> ModuleType:
    path = ROOT / "docs" / "tools" / "fuzz_text.py"
    spec = importlib.util.spec_from_file_location("fuzz_text", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz_text"] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


FUZZ = tool()
SEEDS = FUZZ.Seeds.collect([])


@pytest.mark.parametrize("kind", sorted(FUZZ.KINDS))
def test_a_slice(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTER_CACHE_DIR", str(tmp_path / "cache"))
    cases = {"long": 4, "arguments": 12, "config": 40}.get(kind, 50)
    found = FUZZ.fuzz(kind, cases, 11, SEEDS, tmp_path)
    assert found.cases == cases
    assert not found.failures, f"python docs/tools/fuzz_text.py {kind} --seed 11 --cases {cases}"


def test_the_same_seed_gives_the_same_cases() -> None:
    for kind, (make, _) in FUZZ.KINDS.items():
        one, two = (make(kind, Random(f"5:{kind}:1"), SEEDS) for _ in range(2))
        assert one == two, kind


@pytest.mark.parametrize(
    ("kind", "path", "before", "after"),
    [
        ("yaml", "a.yml", "device: cuda\nname: x\n", "device: npu\nname: y\n"),
        ("yaml", "a.yml", "device: cuda\nname: x\n", "device: npu\nname: x\nn: 1\n"),
        ("json", "a.json", '{"device": "cuda"}', '{"device": "npu"'),
        ("toml", "a.toml", 'device = "cuda"\nx = 1\n', 'device = "npu"\nx = 2\n'),
        ("requirements", "requirements.txt", "torch==2.7.1+cu128\n", "torch==2.7.1+\n"),
        ("shell", "a.sh", "nvidia-smi\n", "npu-smi 'info\n"),
        ("ini", "tox.ini", "[a]\nb = nvidia-smi\nc = 1\n", "[a]\nb = npu-smi info\nc = 2\n"),
        ("notebook", "a.ipynb", '{"cells": [], "nbformat": 4}', '{"cells": [], "nbformat": 3}'),
        ("dockerfile", "Dockerfile", "FROM a\nRUN nvidia-smi\n", "FROM b\nRUN npu-smi info\n"),
    ],
)  # fmt: skip
def test_what_breaks_a_file_is_noticed(
    kind: str, path: str, before: str, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tool cannot pass what porter must not do."""
    case = FUZZ.Case(kind, path, before.encode())
    real = FUZZ.analysed(
        FUZZ.Case(
            "shell", "a.sh", b"# c\nnvidia-smi\n" if kind == "dockerfile" else b"nvidia-smi\n"
        ),
        "npu",
        True,
    )
    site = real.sites[0]

    def broken(asked: object, target: str, unsafe: bool) -> object:
        from dataclasses import replace

        said = replace(site, path=path, before=before.splitlines()[site.line - 1])
        return replace(real, packed=packed(after.encode()), sites=(said,))

    monkeypatch.setattr(FUZZ, "analysed", broken)
    with pytest.raises(FUZZ.Broken):
        FUZZ.check_file(case, Random(1))


def test_what_is_slow_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FUZZ, "LIMIT", 0.05)
    with pytest.raises(FUZZ.Slow):
        spin()


def spin() -> None:
    with FUZZ.bounded("this"):
        while True:
            pass


# What it has found ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "example"), EXAMPLES, ids=[f"{r.code}-{i}" for i, (r, _) in enumerate(EXAMPLES)]
)
def test_a_run_looks_at_every_file_in_which_a_rule_finds_something(
    rule: object, example: object
) -> None:
    target = "npu"
    path, text = example.path, example.before  # type: ignore[attr-defined]
    outcome = analyse_text(text, CATALOG, FUZZ.Target(target), path)
    if outcome.settled:
        seen = Seen(path, path, path, "other", text.encode())
        assert look_at(seen, View((), (), target)).concerns


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("ops/a.cuh", "int f();\n"),
        ("run.sh", "singularity exec --nv img.sif python a.py\n"),
        ("requirements.txt", "-f https://example.org/wheels/cu128\n"),
        ("requirements.txt", "-f https://example.org/x+cu128.html\n"),
        ("Makefile", "%.o: %.cu\n\tcc $<\n"),
    ],
)
def test_words_that_wake_rules(path: str, text: str) -> None:
    assert analyse_text(text, CATALOG, FUZZ.Target("npu"), path).settled
    assert look_at(Seen(path, path, path, "other", text.encode()), View((), (), "npu")).concerns


@pytest.mark.parametrize(
    "source",
    [r'"x.c\u0075da()"', '["x.cu", "da()"]', r'["!nv\u0069dia-smi"]', '["!nvidia", "-smi"]'],
)
def test_a_run_looks_behind_what_json_allows(source: str) -> None:
    data = f'{{"cells": [{{"cell_type": "code", "source": {source}}}], "nbformat": 4}}'.encode()
    assert look_at(
        Seen("a.ipynb", "a.ipynb", "a.ipynb", "notebook", data), View((), (), "npu")
    ).concerns


@pytest.mark.parametrize("text", ["", "// nothing\n/* but\ncomments */\n"])
def test_a_cuda_source_without_code_needs_nothing(text: str) -> None:
    assert not analyse_text(text, CATALOG, FUZZ.Target("npu"), "a.cuh").settled


def test_a_comment_above_a_cuda_source_does_not_become_its_place() -> None:
    text = "/* what it is\n */\n#define A \\\n  B\n"
    new = ignores.add(text, {3: ["POR881"]}, "a.cuh")
    assert new is not None
    assert not analyse_text(new, CATALOG, FUZZ.Target("npu"), "a.cuh").settled


@pytest.mark.parametrize(
    "line",
    [
        "torch==2.7.1+cu128 --hash=sha256:0123",
        "torch==2.7.1+cu128 \\\n    --hash=sha256:0123",
        "torch==2.7.1+cu128,!=2.7.1+cu126",
    ],
)
def test_a_build_that_more_depends_on_is_left(line: str) -> None:
    outcome = analyse_text(line + "\n", CATALOG, FUZZ.Target("npu"), "requirements.txt")
    assert "POR831" in {s.finding.rule for s in outcome.settled}
    assert outcome.text == line + "\n"


@pytest.mark.parametrize(
    "line",
    [
        "torch>=" + "9" * 5000,
        "torch>=2." + "9" * 5000,
        "torch @ https://x/torch-" + "9" * 5000 + ".1-cp311.whl",
        "torch" + " " * 200_000 + "x",
    ],
)  # fmt: skip
def test_numbers_of_any_length_in_requirements(line: str, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text(line + "\ntorch>=2.4\n")
    assert (2, 4) in [bound.lower for bound in requirements.declared(tmp_path)]


def test_a_setup_cfg_that_ends_in_an_error(tmp_path: Path) -> None:
    (tmp_path / "setup.cfg").write_text(
        "[options.extras_require]\ngpu =\n    torch>=2.4\ngpu = torch>=2.4\nno value\n"
    )
    assert (2, 4) in [bound.lower for bound in requirements.declared(tmp_path)]


@pytest.mark.parametrize("text", ["2_0.1", "+2.9", "-1.0", "٢.٩", "2." + "9" * 5000, "2", "2.9rc1"])
def test_what_is_no_version(text: str) -> None:
    with pytest.raises(ValueError, match="not a torch version"):
        version(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tool = 3\n# porter\n", ""),
        ("tool = 'porter'\n", ""),
        ("[tool.porter]\nmin-torch = " + "9" * 5000, "not valid TOML"),
        ("[[tool.porter]]\n", "must be a table"),
    ],
)  # fmt: skip
def test_configurations(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    (tmp_path / ".git").mkdir()
    if said:
        with pytest.raises(ConfigProblem, match=said):
            load([tmp_path])
    else:
        assert load([tmp_path]).source is None


@pytest.mark.parametrize(
    ("text", "captured"),
    [
        ("( a; b ) | c\n", "ab"),
        ("{ a; b; } > log\nd\n", "ab"),
        ("( a; (b) > x; c )\n", "b"),
        ("{ a; { b; } > x; c; }\n", "b"),
        ("if a; then b; fi | c\n", "ab"),
        ("while a; do b; done < f\n", ""),
        ("case x in\n y) b;;\n z) c;;\nesac 2>&1 | e\n", "bc"),
        ("f() { a; }\nb > x\n", "b"),
        ("a | { b; c; }\n", "a"),
        ("if { a; }; then b; fi\nc\n", ""),
        ("(a) || b\n(c) && d\n", ""),
    ],
)
def test_the_output_of_a_group_is_that_of_its_commands(text: str, captured: str) -> None:
    found = {c.words[0].raw for c in read_shell(text).commands if c.captured}
    assert found & set("abcd") == set(captured)


def test_what_a_group_prints_into_a_file_is_not_changed() -> None:
    text = "#!/bin/bash\n{\n  date\n  nvidia-smi\n} > log\nnvidia-smi\n"
    outcome = analyse_text(text, CATALOG, FUZZ.Target("npu"), "a.sh")
    assert outcome.text == text[: -len("nvidia-smi\n")] + "npu-smi info\n"


def test_recipes_with_the_line_ends_of_old_macs() -> None:
    lines = ["all:", "\tnvidia-smi -L", "\tnvcc --version", ""]
    for newline in ("\n", "\r", "\r\n"):
        found = analyse_text(newline.join(lines), CATALOG, FUZZ.Target("npu"), "Makefile")
        assert [s.line for s in found.settled if s.finding.rule == "POR852"] == [2, 3]


ENTRY = {"path": "a.py", "rule": "POR101", "content": "0", "count": 1}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], "it must be an object"),
        ({"porter-baseline": True}, "porter-baseline must be a whole number"),
        ({"porter-baseline": 2}, "its format is 2"),
        ({"porter-baseline": 1, "findings": []}, "target is missing"),
        ({"porter-baseline": 1, "target": None, "findings": []}, "target must be text, not null"),
        ({"porter-baseline": 1, "target": "npu", "findings": {}}, "findings must be a list"),
        *(
            ({"porter-baseline": 1, "target": "npu", "findings": [{**ENTRY, **wrong}]}, said)
            for wrong, said in (
                ({"path": 1}, "findings[0].path must be text"),
                ({"count": "1"}, "findings[0].count must be a whole number, not text"),
                ({"count": 1.5}, "findings[0].count must be a whole number"),
                ({"count": True}, "not true or false"),
                ({"count": 0}, "findings[0].count must be at least 1"),
            )
        ),
    ],
)  # fmt: skip
def test_baselines_of_wrong_types(data: object, said: str, tmp_path: Path) -> None:
    file = tmp_path / "b.json"
    file.write_text(json.dumps(data))
    with pytest.raises(baseline.BaselineProblem) as problem:
        baseline.read(file)
    assert said in str(problem.value)
    assert str(file) in str(problem.value)


def test_two_branches_may_accept_the_same_finding(tmp_path: Path) -> None:
    file = tmp_path / "b.json"
    more = {**ENTRY, "count": 2}
    file.write_text(json.dumps({"porter-baseline": 1, "target": "npu", "findings": [more, ENTRY]}))
    assert list(baseline.read(file).entries.values()) == [2]


def test_json_nested_without_end(tmp_path: Path) -> None:
    file = tmp_path / "b.json"
    file.write_text("[" * 100_000)
    with pytest.raises(baseline.BaselineProblem, match="not valid JSON"):
        baseline.read(file)


def report() -> Report:
    result = FUZZ.analysed(FUZZ._MAIN, "npu", False)
    return assemble("npu", "2.9", result.sites, ())


def test_the_shape_of_reports_is_that_of_the_schema() -> None:
    schema = json.loads((ROOT / "docs" / "report.schema.json").read_text())
    assert not misfit(as_data(report()), reading.SHAPE)

    def compare(shape: object, said: dict[str, object], place: str) -> None:
        if isinstance(shape, list):
            assert said["type"] == "array", place
            compare(shape[0], said["items"], f"{place}[]")  # type: ignore[arg-type]
        elif isinstance(shape, dict) and "*" in shape:
            compare(shape["*"], said["additionalProperties"], f"{place}.*")  # type: ignore[arg-type]
        elif isinstance(shape, dict) and shape:
            properties: dict[str, dict[str, object]] = said["properties"]  # type: ignore[assignment]
            required = {key for key in shape if not key.endswith("?")}
            assert required == set(said["required"]) - {"schema"}, place  # type: ignore[call-overload]
            assert {key.rstrip("?") for key in shape} == set(properties) - {"schema"}, place
            for key, inner in shape.items():
                compare(inner, properties[key.rstrip("?")], f"{place}.{key}")
        elif isinstance(shape, frozenset):
            assert shape == set(said["enum"]), place  # type: ignore[call-overload]
        elif isinstance(shape, type) and "type" in said:
            names = {str: "string", int: "integer", bool: "boolean"}
            assert names[shape] == said["type"], place

    compare(reading.SHAPE, schema, "")


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("sites", 0, "line"), "1", "sites[0].line must be a whole number, not text"),
        (("sites", 0, "status"), "done", "sites[0].status must be one of"),
        (("sites", 0, "rule"), "POR999", "sites[0].rule is not among its rules"),
        (("sites", 0, "snippet"), [], "sites[0].snippet must be an object, not a list"),
        (("verdict", "readiness"), "1", "verdict.readiness must be a whole number or null"),
        (("applied",), 0, "applied must be true or false, not a whole number"),
    ],
)
def test_damaged_reports(
    place: tuple[object, ...], value: object, said: str, tmp_path: Path
) -> None:
    data = as_data(report())
    inner = data
    for key in place[:-1]:
        inner = inner[key]  # type: ignore[index]
    inner[place[-1]] = value  # type: ignore[index]
    file = tmp_path / "r.json"
    file.write_text(json.dumps(data))
    with pytest.raises(reading.ReportProblem) as problem:
        reading.load(file)
    assert said in str(problem.value)
    assert str(file) in str(problem.value)


def test_checks_of_wrong_types(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, checks = tmp_path / "r.json", tmp_path / "c.json"
    good.write_text(json.dumps(as_data(report())))
    checks.write_text(json.dumps({"checks": [{"kind": "rehearsal"}]}))
    assert start(["report", str(good), "--with", str(checks)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "c.json: the report is damaged: checks[0].name is missing" in said


def test_a_name_that_is_too_long(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    good = tmp_path / "r.json"
    good.write_text(json.dumps(as_data(report())))
    assert start(["report", str(good), "-o", "a" * 5000]) == 2
    assert "File name too long" in capsys.readouterr().err


# Time ------------------------------------------------------------------------------------------


def test_spans_around_an_offset() -> None:
    random = Random(3)
    for _ in range(300):
        spans = []
        for _ in range(random.randrange(7)):
            start_ = random.randrange(20)
            spans.append((start_, start_ + random.randrange(8)))
        first, longest = Around(spans), Around(spans, length)
        for offset in range(-1, 30):
            here = [i for i, (a, b) in enumerate(spans) if a <= offset < b]
            assert first.at(offset) == (here[0] if here else None)
            wide = max(here, key=lambda i: spans[i][1] - spans[i][0], default=None)
            assert longest.at(offset) == wide


def test_many_comments_above_one_statement() -> None:
    lines = ["# porter: ignore[POR851]"] * 2000 + ["export A=1 \\"] * 2000 + ["B=2"]
    found = Suppressions.read_file(TextFile("\n".join(lines) + "\n", "a.sh"))
    assert found.covers("POR851", 2001)
    assert found.covers("POR851", 4001)
    assert sum(1 for _ in found.unused([("POR851", 2001)] * 2000)) == 0


def test_many_commands_in_a_cell() -> None:
    book = Notebook.parse(
        json.dumps(
            {"cells": [{"cell_type": "code", "source": "!a\r\nb\rc\n" * 3000}], "nbformat": 4}
        ).encode()
    )
    assert [book.locate(m.start).line for m in book.magics] == list(range(1, 9001, 3))
