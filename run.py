"""One command for everything: `python3 run.py sample`, `python3 run.py test`.

Needs Python 3.10 or later and pip, nothing else. It keeps to this folder: packages go to `.venv`,
results to `build`. The first run installs, later ones start at once.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "installed.json"
SAMPLE = Path("fixtures", "sample")
OUTPUT = Path("build", "sample")
#: Some tests compare with a real torch. Outside of macOS only the small build without GPU code is
#: taken, never gigabytes of it.
TORCH = "torch==2.13.0" + ("" if platform.system() == "Darwin" else "+cpu")
#: `porter fleet --engine ray` is tested on a cluster of this.
RAY = ["ray>=2.30,<3"]
#: `porter onnx` is tested with these; they need a torch that is there already.
ONNX = ["onnx>=1.20,<2", "onnxruntime>=1.23,<2", "onnxscript>=0.6.2,<1"]


class Failed(Exception):
    """Something that the user must see to; the text is one line."""


def main() -> int:
    """Run the command that was asked for."""
    if sys.version_info < (3, 10):  # noqa: UP036 - whoever has an older one must be told
        raise Failed("Python 3.10 or later is needed; this is " + platform.python_version())
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    sample = commands.add_parser("sample", help="migrate the sample repository, show the patch")
    sample.add_argument("--target", default="accelerator", choices=("accelerator", "npu"))
    commands.add_parser("test", help="run all tests; takes pytest's options")
    options, rest = parser.parse_known_args()
    os.chdir(ROOT)
    if options.command == "test":
        return test(rest)
    if rest:
        parser.error(f"unknown option: {rest[0]}")
    return migrate_sample(options.target)


def migrate_sample(target: str) -> int:
    """Migrate the sample: the patch to standard output, patch, copy and report to `build`."""
    install("sample", ["-e", "."])
    folder = OUTPUT / target
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [str(PYTHON), "-m", "porter", "migrate", str(SAMPLE), "--target", target]
    report = folder / "report.json"
    shown = subprocess.run(
        [*command, "--diff", "--report", str(report)], check=False, stdout=subprocess.PIPE
    )
    copied = subprocess.run(
        [*command, "--quiet", "--output", str(folder / "migrated")], check=False
    )
    # 1 says that something is left for a person, which is so in the sample.
    if {shown.returncode, copied.returncode} - {0, 1}:
        raise Failed("porter could not migrate the sample")
    patch = folder / "sample.patch"
    patch.write_bytes(shown.stdout)
    sys.stdout.buffer.write(shown.stdout)
    sys.stdout.flush()
    say(f"patch: {patch.as_posix()}, migrated copy: {(folder / 'migrated').as_posix()}")
    return 0


def test(options: "list[str]") -> int:
    """Run the tests; they hold the linter and the type checker too."""
    install("dev", ["-e", ".[dev,docs]"])
    if not install("torch", [TORCH, "numpy>=1.26,<3"], optional=True):
        say(f"{TORCH} cannot be installed here: the tests that need torch are skipped")
    elif not install("onnx", ONNX, optional=True):
        say(f"{', '.join(ONNX)} cannot be installed here: the tests that need them are skipped")
    if not install("ray", RAY, optional=True):
        say(f"{RAY[0]} cannot be installed here: the tests that need it are skipped")
    return subprocess.run([PYTHON, "-m", "pytest", "-n", "2", *options], check=False).returncode


def install(name: str, requirements: "list[str]", optional: bool = False) -> bool:
    """Install into `.venv` what `name` stands for, unless that has been done."""
    make_environment()
    stamps = json.loads(STAMP.read_text(encoding="utf-8")) if STAMP.is_file() else {}
    wanted = digest(requirements)
    if stamps.get(name) == wanted:
        return True
    say(f"installing {' '.join(requirements)} into .venv")
    done = subprocess.run(
        [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements],
        check=False,
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode and optional:
        return False
    if done.returncode:
        raise Failed(f"pip could not install:\n{done.stderr.strip()}")
    STAMP.write_text(json.dumps({**stamps, name: wanted}), encoding="utf-8")
    return True


def make_environment() -> None:
    """Make `.venv`, unless there is one that works with this Python."""
    if works([PYTHON, "-c", "import pip, sys; sys.exit(sys.version_info < (3, 10))"]):
        return
    if (VENV / "pyvenv.cfg").is_file():
        shutil.rmtree(VENV)
    elif VENV.exists():
        raise Failed(".venv is no virtual environment; move it away")
    say("making .venv")
    make = [sys.executable, "-m", "venv", str(VENV)]
    # Debian ships venv without what it takes to install pip; then this Python's own pip does it.
    bare = not works([sys.executable, "-c", "import ensurepip"])
    if subprocess.run([*make, "--without-pip"] if bare else make, check=False).returncode:
        raise Failed(f"{sys.executable} cannot make a virtual environment")
    outer = [sys.executable, "-m", "pip", "--python", str(PYTHON)]  # since pip 22.3
    if bare and subprocess.run([*outer, "install", "--quiet", "pip"], check=False).returncode:
        raise Failed(f"{sys.executable} needs pip 22.3 or later, or python3-venv")


def works(command: "list[str | Path]") -> bool:
    """Whether a command can be run and succeeds."""
    try:
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
    except OSError:
        return False


def digest(requirements: "list[str]") -> str:
    """What an installation depends on."""
    text = "\n".join([str(ROOT), *requirements, (ROOT / "pyproject.toml").read_text("utf-8")])
    return hashlib.sha256(text.encode()).hexdigest()


def say(text: str) -> None:
    """Tell what happens next, apart from the results."""
    sys.stdout.flush()
    print(f"run.py: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as problem:
        sys.exit(f"run.py: {problem}")
