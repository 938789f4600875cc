"""Check every model of fixtures/onnx/zoo.toml, and write docs/onnx-models.md from what was found.

The results are kept in fixtures/onnx/measured.json, so that the page can be written, and compared
with the expectations, without running anything. Models of transformers and timm need these packages
in the Python that runs porter (torchvision is not needed)::

    python docs/tools/onnx_models.py measure           # all models
    python docs/tools/onnx_models.py measure mlp gpt2  # these only; the others stay as they are
    python docs/tools/onnx_models.py page              # docs/onnx-models.md
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORY = Path(__file__).resolve().parents[2]
ZOO = REPOSITORY / "fixtures" / "onnx"
MEASURED = ZOO / "measured.json"
PAGE = REPOSITORY / "docs" / "onnx-models.md"
#: Keys of zoo.toml that `porter onnx check` does not know.
OWN = ("group", "expect", "operators", "why")
GROUPS = {
    "nn": "Layers and small networks",
    "negative": "Cases that must not pass, and those near them",
    "transformers": "Architectures of transformers",
    "timm": "Architectures of timm",
}
PACKAGES = ("torch", "onnx", "onnxruntime", "onnxscript", "transformers", "timm")
#: Seconds for one model; each takes less than 60 on two cores.
TIMEOUT = 900


def models() -> list[dict[str, Any]]:
    """The tables of zoo.toml."""
    found: list[dict[str, Any]] = tomllib.loads((ZOO / "zoo.toml").read_text(encoding="utf-8"))[
        "model"
    ]
    return found


def project(folder: Path, chosen: Sequence[dict[str, Any]]) -> None:
    """Write a project with these models as its tables."""
    (folder / "zoo.py").write_bytes((ZOO / "zoo.py").read_bytes())
    lines = ["[tool.porter]", 'target = "npu"', ""]
    for model in chosen:
        lines.append("[[tool.porter.onnx]]")
        lines += [f"{k} = {_toml(v)}" for k, v in model.items() if k not in OWN]
        lines.append("")
    (folder / "pyproject.toml").write_text("\n".join(lines), encoding="utf-8")


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + " }"
    return json.dumps(value)


def check(model: dict[str, Any]) -> dict[str, Any]:
    """What `porter onnx check` says of one model."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        project(folder, [model])
        done = subprocess.run(
            [sys.executable, "-m", "porter", "onnx", "check", "--root", str(folder), "-q",
             "--target", "npu", "--no-original", "--output-format", "json"],
            capture_output=True, text=True, timeout=TIMEOUT,
        )  # fmt: skip
    try:
        (found,) = json.loads(done.stdout)["checks"]
    except ValueError:
        raise SystemExit(f"{model['name']}: {done.stderr[-2000:]}") from None
    return summary(found)


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a verdict."""
    inside = found["onnx"]
    operators = inside["operators"]
    missing = [
        f"{u['operator']}@{u['opset']}"
        for u in (operators or {"operators": []})["operators"]
        if u["registration"] != "registered"
    ]
    held = [a for a in inside["attempts"] if a["rung"] == inside["rung"]]
    first = (inside["attempts"] or [{}])[0].get("explanation") or {}
    said = (inside["trouble"] or first).get("text", "")
    if not said and found["verdict"] not in ("pass", "gap"):
        said = found["detail"]
    return {
        "verdict": found["verdict"],
        "rung": inside["rung"],
        "error": max((s["error"] or 0.0 for a in held for s in a["sets"]), default=None),
        "nodes": (inside["graph"] or {}).get("nodes"),
        "operators": missing,
        "said": said,
    }


def measure(names: Sequence[str]) -> int:
    """Check models, and keep what was found; the number of surprises."""
    known = models()
    unknown = set(names) - {m["name"] for m in known} - set(GROUPS)
    if unknown:
        raise SystemExit(f"no such model: {', '.join(sorted(unknown))}")
    kept = json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.exists() else {}
    results, wrong = kept.get("models", {}), 0
    for model in known:
        if names and model["name"] not in names and model["group"] not in names:
            continue
        found = check(model)
        results[model["name"]] = found
        good = expected(model) == (found["verdict"], tuple(found["operators"]))
        wrong += not good
        print(f"{'' if good else '!! '}{model['name']}: {found['verdict']} {found['operators']} "
              f"{found['said']}", flush=True)  # fmt: skip
        MEASURED.write_text(
            json.dumps(
                {
                    "versions": _versions(),
                    "models": {
                        m["name"]: results[m["name"]] for m in known if m["name"] in results
                    },
                },
                indent=1,
            )
            + "\n",
            encoding="utf-8",
        )
    return wrong


def expected(model: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """The verdict that a model must have, and the operators that the compiler does not take."""
    return model.get("expect", ""), tuple(model.get("operators", ()))


def _versions() -> dict[str, str]:
    from importlib import metadata

    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


# The page ---------------------------------------------------------------------------------------


def page() -> str:
    """The text of docs/onnx-models.md."""
    kept = json.loads(MEASURED.read_text(encoding="utf-8"))
    return "\n".join(_lines(models(), kept)) + "\n"


def _lines(known: Sequence[dict[str, Any]], kept: dict[str, Any]) -> Iterator[str]:
    versions = ", ".join(f"{name} {version}" for name, version in kept["versions"].items())
    right = sum(
        expected(m) == (r["verdict"], tuple(r["operators"]))
        for m in known
        if (r := kept["models"].get(m["name"])) is not None
    )
    yield "# Models that `porter onnx check` was tried on"
    yield ""
    yield "Generated by `docs/tools/onnx_models.py page`; do not edit."
    yield ""
    yield (
        f"{len(known)} models of fixtures/onnx/zoo.py, each exported at opset 18 and run with two "
        f"sets of inputs, of different sizes where a size may vary. {right} of {len(known)} have the "
        "verdict that zoo.toml expects of them. Weights are random. Measured on a CPU with "
        f"{versions}."
    )
    yield ""
    yield (
        "*Error* is the largest difference between the graph and the model, in the units of the "
        "tolerance. The last column names operators that no plugin of Ascend's compiler registers, "
        "and says why a model did not pass. See also [ONNX operators](onnx-operators.md)."
    )
    for group, title in GROUPS.items():
        yield ""
        yield f"## {title}"
        yield ""
        yield "| Model | Inputs | Verdict | Error | Nodes | |"
        yield "|---|---|---|---|---|---|"
        for model in known:
            if model["group"] == group:
                yield _row(model, kept["models"].get(model["name"]))


def _row(model: dict[str, Any], found: dict[str, Any] | None) -> str:
    inputs = "<br>".join(f"`{i}`" for i in model["inputs"])
    if found is None:
        return f"| {model['name']} | {inputs} | not measured | | | |"
    error = "" if found["error"] is None else f"{found['error']:.0e}"
    said = "; ".join(filter(None, [", ".join(found["operators"]), found["said"]]))
    cells = (
        model["name"], inputs, found["verdict"], error, str(found["nodes"] or ""),
        said.replace("|", "\\|"),
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure", help="check models")
    measuring.add_argument("names", nargs="*", help="models or groups; all by default")
    commands.add_parser("page", help="write docs/onnx-models.md")
    options = parser.parse_args()
    if options.command == "measure":
        return 1 if measure(options.names) else 0
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
