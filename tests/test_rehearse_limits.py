"""Whatever a command does, a rehearsal ends and says what came of it. None of this needs torch."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from porter.problem import Mistake
from porter.rehearse import interpreter, launch, processes, show
from porter.rehearse.command import NO_TORCH, Options, choose, exit_code, moved_path, rehearse
from porter.rehearse.verdict import Rehearsal, Verdict
from porter.rewrites.simulated import start

if os.name != "posix":
    pytest.skip("rehearsals need a POSIX system", allow_module_level=True)
LINUX = sys.platform == "linux"
needs_proc = pytest.mark.skipif(not LINUX, reason="processes are told apart by /proc")

#: What a script writes to the file `mark` while it runs is not there if it was ended.
ALIVE = "import time, pathlib\ntime.sleep({seconds})\npathlib.Path({mark!r}).write_text('alive')\n"


@pytest.fixture
def bare(tmp_path: Path) -> Options:
    """Rehearsals in a Python whose torch does nothing, so that they need none."""
    fake = tmp_path / "fake" / "torch"
    fake.mkdir(parents=True)
    (fake / "__init__.py").write_text("")
    return Options(
        folder=str(tmp_path), limit=60, echo=False, variables=(f"PYTHONPATH={fake.parent}",)
    )


def on(text: str, options: Options, **changed: object) -> Rehearsal:
    """The rehearsal of a script."""
    script = Path(options.folder) / "script.py"
    script.write_text(text)
    given = Options(**{**options.__dict__, **changed})
    with (Path(options.folder) / "said").open("w") as out:
        return rehearse([str(script)], given, out)


def test_a_hang_names_its_line_even_without_torch(bare: Options) -> None:
    found = on("import time\n\n\ndef wait():\n    time.sleep(60)\n\n\nwait()\n", bare, limit=1.5)
    assert found.verdict is Verdict.HUNG
    assert exit_code(found) == 1
    if LINUX:
        assert any("script.py:5: here it was" in r for r in found.reasons), found


def test_a_program_that_will_not_end_is_ended(bare: Options) -> None:
    text = (
        "import signal, time\n"
        "for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):\n"
        "    signal.signal(n, signal.SIG_IGN)\n"
        "while True:\n    time.sleep(0.1)\n"
    )
    begun = time.monotonic()
    assert on(text, bare, limit=1.0).verdict is Verdict.HUNG
    assert time.monotonic() - begun < 30


def test_a_program_that_halts_itself_tells_where(bare: Options) -> None:
    found = on("import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\n", bare, limit=1.5)
    assert found.verdict is Verdict.HUNG
    if LINUX:
        assert any("script.py:2: here it was" in r for r in found.reasons), found


@pytest.mark.parametrize("ending", ["'x' * 1000", "'line ' * 20 + chr(10)"])
def test_endless_output_is_cut_and_not_kept(bare: Options, ending: str) -> None:
    text = f"import sys\nwhile True:\n    sys.stderr.write({ending})\n"
    found = on(text, bare, limit=1.5)
    assert found.verdict is Verdict.HUNG
    assert len(found.stacks) < 2 * launch.KEPT_BYTES
    assert all(len(r) < 1000 for r in found.reasons)


@needs_proc
def test_too_much_memory_ends_it(bare: Options) -> None:
    text = "kept = []\nwhile True:\n    kept.append(bytearray(1 << 22))\n"
    found = on(text, bare, host_memory=300 << 20)
    assert found.verdict is Verdict.FULL
    assert any("script.py:3: here it was" in r for r in found.reasons), found
    assert "--host-memory" in show.text(found)


@needs_proc
def test_a_process_that_leaves_the_session_is_ended(bare: Options, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    text = (
        "import subprocess, sys\n"
        f"subprocess.Popen([sys.executable, '-c', {ALIVE.format(seconds=2.5, mark=str(mark))!r}],\n"
        "    start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
    )
    found = on(text, bare)
    assert any("still ran after the end" in n.what for n in found.notes), found
    time.sleep(2)
    assert not mark.exists()


@pytest.mark.parametrize("code", [0, 3])
def test_an_exit_that_skips_everything(bare: Options, code: int) -> None:
    found = on(f"import os\nos._exit({code})\n", bare)
    assert found.verdict is (Verdict.FAILED if code else Verdict.NOT_PROVED)


def test_an_exit_with_words_is_told(bare: Options) -> None:
    found = on("import sys\nsys.exit('no GPU found')\n", bare)
    assert found.verdict is Verdict.FAILED
    assert "the last line it wrote: no GPU found" in found.reasons


def test_a_question_at_the_keyboard_is_an_error_with_its_line(bare: Options) -> None:
    found = on("\ninput('continue? ')\n", bare)
    assert found.verdict is Verdict.FAILED
    assert found.failures[0].type == "EOFError"
    assert found.failures[0].place.endswith("script.py:2")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_ending_porter_ends_the_command(tmp_path: Path, number: int) -> None:
    mark = tmp_path / "mark"
    text = ALIVE.format(seconds=3, mark=str(mark))
    program = (
        "import sys\nfrom pathlib import Path\nfrom porter.rehearse import launch\n"
        f"print('begun', flush=True)\nlaunch.run([sys.executable, '-c', {text!r}], {{}}, Path())\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=tmp_path
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(1)
    process.send_signal(number)
    assert process.wait(20) == 128 + number
    process.stdout.close()
    time.sleep(3)
    assert not mark.exists()


@needs_proc
def test_a_family_is_told_by_its_mark(tmp_path: Path) -> None:
    with _sleeping({"PORTER_TEST_MARK": "one"}) as pid:
        assert pid in processes.Family("PORTER_TEST_MARK=one").members()
        assert pid not in processes.Family("PORTER_TEST_MARK=on").members()
        assert "sleep" in processes.command_line(pid)
        assert processes.memory([pid]) > 1 << 20
    assert processes.available() > 0


@contextlib.contextmanager
def _sleeping(environment: dict[str, str]) -> Iterator[int]:
    command = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
    process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


# Machines and versions that cannot carry the device -----------------------------------------------


def test_other_systems_and_versions_are_refused_in_one_line() -> None:
    assert start.refusal("2.13.0+cpu", "linux") == ""
    assert start.refusal("2.14.1", "darwin") == ""
    for version, platform, said in (
        ("2.5.1", "linux", "torch 2.13 and 2.14; this is torch 2.5.1"),
        ("2.130.0", "linux", "this is torch 2.130.0"),
        ("2.13.0", "win32", "WSL"),
    ):
        found = start.refusal(version, platform)
        assert said in found
        assert "\n" not in found
    assert start.caution("linux") == ""
    assert "darwin" in start.caution("darwin")


@pytest.mark.parametrize("version", ["1.13.1+cu117", "2.12.0", "3.0.0"])
def test_another_torch_is_refused_before_anything_runs(bare: Options, version: str) -> None:
    fake = Path(bare.folder) / "fake" / f"torch-{version}.dist-info"
    fake.mkdir()
    (fake / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
    found = on("raise SystemExit('it ran')\n", bare)
    assert found.verdict is Verdict.UNSUPPORTED
    assert found.reasons[0].endswith(f"this is torch {version}")
    assert exit_code(found) == 2
    assert len(show.text(found).splitlines()) == 2


def test_macos_gets_a_remark(bare: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = interpreter.Interpreter("2.13.0", True, "darwin", ())
    monkeypatch.setattr(interpreter, "ask", lambda *_: asked)
    found = on("print(1)\n", bare)
    assert any("never on darwin" in n.what for n in found.notes)


def test_windows_is_refused(bare: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr("porter.rehearse.command.POSIX", False)
    found = on("raise SystemExit('it ran')\n", bare)
    assert found.verdict is Verdict.UNSUPPORTED
    assert "WSL" in found.reasons[0]


def test_a_python_without_torch(
    bare: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = interpreter.Interpreter("", False, "linux", ())
    monkeypatch.setattr(interpreter, "ask", lambda *_: silent)
    with pytest.raises(Mistake, match="pip install") as caught:
        choose("", tmp_path, {})
    assert str(caught.value) == NO_TORCH
    with pytest.raises(Mistake, match="has no torch"):
        choose("/some/python", tmp_path, {})


def test_the_shells_python_is_taken_where_this_one_has_no_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "python"
    other.write_text("")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(
        interpreter,
        "ask",
        lambda python, *_: interpreter.Interpreter("", python == str(other), "linux", ()),
    )
    assert choose("", tmp_path, {})[0] == str(other)


def test_packages_installed_for_editing_are_found(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, types\nfinder = types.ModuleType('__editable___mine_1_0_finder')\n"
        "finder.MAPPING = {'mine': '/project/src/mine'}\nsys.modules[finder.__name__] = finder\n"
    )
    asked = interpreter.ask(sys.executable, tmp_path, {"PYTHONPATH": str(tmp_path)})
    assert {"/project/src", str(tmp_path)} <= set(asked.path)
    assert moved_path("/project/src", "/project", "/copy") == "/copy/src"
    assert moved_path("/projects", "/project", "/copy") == ""
    assert moved_path("/project/.venv/lib/site-packages", "/project", "/copy") == ""


def test_what_is_no_python_does_not_answer(tmp_path: Path) -> None:
    for name in ("/no/such/python", "/bin/echo", "/bin/false"):
        with pytest.raises(interpreter.NoAnswer) as caught:
            interpreter.ask(name, tmp_path, {})
        assert "\n" not in str(caught.value)
