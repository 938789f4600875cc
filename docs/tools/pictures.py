"""Take the pictures of the documentation: terminals as SVG, the HTML report as PNG.

python docs/tools/pictures.py            take those that are out of date; the PNG needs Chromium
python docs/tools/pictures.py --all      take all of them anew
python docs/tools/pictures.py --check    take none; exit with 1 if one is out of date

Every picture shows what porter prints for a copy of fixtures/sample. A picture of a terminal holds
its text as its description, so that readers who cannot see it have it too, and so that this
program can tell whether it still is what porter prints.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import html
import importlib.util
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "docs" / "pictures"
WIDTH = 100
#: What is typed for each picture, in a fresh copy of the sample.
SCENES = {
    "migrate": ("porter check . --statistics", "porter migrate ."),
    "full": ("porter check utils.py --output-format full",),
}
REPORT = ("report.png", "porter check . --target npu --quiet --report report.html")
#: What the PNG was taken of: a digest of the findings in the report.
SOURCE = "report.source.json"
_BAR = re.compile(r"[^\n]*\r(?!\n)(\x1b\[K)?")
#: rich's own frame loads a font from a content network; this one takes the reader's.
_FRAME = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" role="img" \
xmlns="http://www.w3.org/2000/svg">
<title>A terminal</title>
<desc>DESCRIPTION</desc>
<style>
.{unique_id}-matrix {{ font: {char_height}px/{line_height}px ui-monospace, Menlo, Consolas, \
"DejaVu Sans Mono", monospace; font-variant-east-asian: full-width; }}
.{unique_id}-title {{ font: 18px system-ui, sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def load(name: str) -> ModuleType:
    """A module of the tests: console, browser."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tests" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def sample() -> Iterator[tuple[Path, dict[str, str]]]:
    """A fresh copy of the sample, and an environment in which a terminal has colours."""
    console = load("console")
    with tempfile.TemporaryDirectory() as folder:
        place = console.make("sample", Path(folder))
        environment = console.environment(Path(folder))
        del environment["NO_COLOR"]
        yield place, {**environment, "TERM": "xterm-256color", "COLUMNS": str(WIDTH)}


def shown(commands: tuple[str, ...]) -> str:
    """What a terminal shows, with its colours, when these are typed."""
    with sample() as (place, environment):
        parts = [
            f"\x1b[1;32m$\x1b[0m \x1b[1m{command}\x1b[0m\n{typed(command, place, environment)}"
            for command in commands
        ]
    return "\n".join(parts)


def typed(command: str, place: Path, environment: dict[str, str]) -> str:
    """What a command writes to a terminal."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, WIDTH, 0, 0))
    process = subprocess.Popen(
        ["bash", "-c", command],
        cwd=place,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    written = bytearray()
    # Linux answers with an error when the other end is closed.
    with contextlib.suppress(OSError):
        while part := os.read(master, 65536):
            written += part
    os.close(master)
    process.wait()
    return _BAR.sub("", written.decode("utf-8").replace("\r\n", "\n"))


def plain(text: str) -> str:
    """A terminal's text without its colours."""
    return Text.from_ansi(text).plain


def drawn(name: str, text: str) -> str:
    """A terminal as SVG."""
    console = Console(
        record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(Text.from_ansi(text))
    picture = console.export_svg(
        title="porter", theme=MONOKAI, code_format=_FRAME, unique_id=f"porter-{name}"
    )
    # The frame is filled in first: braces in the text are not fields of it.
    picture = picture.replace("DESCRIPTION", html.escape(plain(text), quote=False))
    return "\n".join(line.rstrip() for line in picture.splitlines()) + "\n"


def described(picture: str) -> str:
    """The text that a picture was taken of."""
    found = re.search(r"<desc>(.*?)</desc>", picture, re.DOTALL)
    return html.unescape(found[1]) if found else ""


def digest() -> str:
    """What the picture of the report depends on: its findings and its verdict."""
    with sample() as (place, environment):
        typed("porter check . --target npu --quiet --report report.json", place, environment)
        report = json.loads((place / "report.json").read_text(encoding="utf-8"))
    keys = ("path", "rule", "status")
    sites = sorted([site[key] for key in keys] for site in report["sites"])
    text = json.dumps([report["verdict"]["status"], report["verdict"]["readiness"], sites])
    return hashlib.sha256(text.encode()).hexdigest()


def take_report(path: Path) -> None:
    """The first screen of the HTML report. Raises SystemExit if there is no browser."""
    browser = load("browser")
    if missing := browser.missing():
        raise SystemExit(f"no picture of the report: {missing}")
    with sample() as (place, environment), tempfile.TemporaryDirectory() as profile:
        typed(REPORT[1], place, environment)
        with browser.browser(Path(profile)) as window:
            window.size(1200, 860)
            window.open(place / "report.html")
            window.picture(path)


def main() -> int:
    """Take the pictures, or tell which ones are out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--all", action="store_true")
    options = parser.parse_args()
    stale = []
    for name, commands in SCENES.items():
        path, text = PICTURES / f"{name}.svg", shown(commands)
        if options.all or not fresh(path, text):
            stale.append(path)
            if not options.check:
                path.write_text(drawn(name, text), encoding="utf-8")
    path, source = PICTURES / REPORT[0], PICTURES / SOURCE
    now = {"findings": digest()}
    if options.all or not path.is_file() or json.loads(source.read_text("utf-8")) != now:
        stale.append(path)
        if not options.check:
            take_report(path)
            source.write_text(json.dumps(now) + "\n", encoding="utf-8")
    for path in stale:
        print(f"{'out of date' if options.check else 'taken'}: {path.relative_to(ROOT).as_posix()}")
    return int(options.check and bool(stale))


def fresh(path: Path, text: str) -> bool:
    """Whether a picture of a terminal shows this text."""
    return path.is_file() and described(path.read_text(encoding="utf-8")) == plain(text)


if __name__ == "__main__":
    sys.exit(main())
