"""Questions to git that stay safe in a repository nobody has vetted.

A repository's own ``.git/config`` can name programs: hooks, a file system monitor, pagers, diff
drivers, clean filters, transports. Only plumbing that lists names or reads objects is called here,
with those programs switched off; nothing here makes git read a work tree file, because that is
when it runs ``filter.<name>.clean``. Hence no ``git status`` and no ``git diff``: ``dirty`` hashes
the files itself.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from porter import files

_TIMEOUT = 60  # seconds
_SWITCHES = (
    "--no-pager",
    "--no-replace-objects",
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.pager=cat"),
    *("-c", "diff.external="),
    *("-c", "diff.relative=false"),
    *("-c", "safe.bareRepository=explicit"),
)
_ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_PAGER": "cat",
    # A partial clone fetches missing objects through a transport that its config may name.
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
    "LC_ALL": "C",
}
_KEPT = {"GIT_CEILING_DIRECTORIES", "GIT_CONFIG_GLOBAL", "GIT_DISCOVERY_ACROSS_FILESYSTEM"}
_LINK = "160000"  # the mode of a submodule's entry
_LARGEST = 64_000_000  # bytes of a file that is hashed; a larger one counts as changed
#: Work trees, or folders in them, where git did not answer in time: a pipe may stand where it
#: reads its ignore rules, and each question would wait anew.
_silent: list[str] = []
_LFS_OID = re.compile(rb"^oid sha256:([0-9a-f]{64})$", re.MULTILINE)
#: What git says of a folder that it leaves out, and then succeeds all the same.
_CLOSED = re.compile(
    rb"^warning: could not open directory '(?:(.*?)/': ([^\n]*)|([^'\n]*))$",
    re.DOTALL | re.MULTILINE,
)
_STAT = re.compile(rb"  mtime: (\d+):(\d+)\n.*?\n.*?\n  size: (\d+)\t", re.DOTALL)


@dataclass(frozen=True)
class Listing:
    """Paths below a folder, POSIX and relative to it, in git's order.

    ``nested`` are submodules and other repositories, whose files are not listed; ``closed`` are
    folders that git could not look into, and why not.
    """

    tracked: tuple[str, ...]
    untracked: tuple[str, ...]
    nested: tuple[str, ...]
    closed: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class _Entry:
    """One file of the index; ``merged`` is false during a conflict."""

    object_id: str
    merged: bool


@dataclass(frozen=True)
class _Noted:
    """Time (in nanoseconds) and size of a file when git last found it unchanged."""

    modified: int
    size: int


def toplevel(path: Path) -> Path | None:
    """Return the work tree that holds ``path``; None without git or outside a work tree."""
    folder = path if path.is_dir() else path.parent
    answer = _ask(folder, "rev-parse", "--show-toplevel")
    if not answer:
        return None
    top = Path(os.path.realpath(os.fsdecode(answer.removesuffix(b"\n"))))
    # core.worktree can point anywhere: a work tree that does not hold the path is none.
    return top if Path(os.path.realpath(folder)).is_relative_to(top) else None


def refusal(path: Path) -> str | None:
    """Return git's complaint where a ``.git`` lies at or above ``path`` but git cannot use it.

    Such a repository (another user's, damaged, or git is not installed) reads as no repository
    for the rest of this module: whoever relies on git's knowledge should say so.
    """
    folder = Path(os.path.realpath(path if path.is_dir() else path.parent))
    if not any(os.path.lexists(above / ".git") for above in (folder, *folder.parents)):
        return None
    if toplevel(folder) is not None:
        return None
    done = _run(folder, "rev-parse", "--show-toplevel")
    if done is None:
        return "git is not installed or does not answer"
    complaint = done.stderr.decode("utf-8", "replace").strip().split("\n")[0]
    return complaint or "the work tree lies elsewhere"


def tracked_and_untracked(path: Path) -> list[str] | None:
    """Return the files below the folder ``path`` that git tracks or would add, relative to it.

    Ignored files and the contents of submodules are not among them; a tracked file may be gone
    from disk. None without git or outside a work tree.
    """
    found = listing(path)
    return None if found is None else [*found.tracked, *found.untracked]


def listing(path: Path) -> Listing | None:
    """Return what git knows below the folder ``path``; None without git or outside a work tree."""
    if toplevel(path) is None:
        return None
    index = _ask(path, "ls-files", "-z", "--stage")
    others = _run(path, "ls-files", "-z", "--others", "--exclude-standard")
    if index is None or others is None or others.returncode:
        return None
    tracked: dict[str, None] = {}
    nested: dict[str, None] = {}
    for record in _records(index):
        attributes, _, name = record.partition("\t")
        (nested if attributes.startswith(_LINK) else tracked)[name] = None
    untracked = _records(others.stdout)
    # git shows an untracked repository as one name with a slash at its end.
    nested.update((name[:-1], None) for name in untracked if name.endswith("/"))
    files = tuple(name for name in untracked if not name.endswith("/"))
    return Listing(tuple(tracked), files, tuple(nested), tuple(_closed(others.stderr)))


def _closed(complaints: bytes) -> Iterator[tuple[str, str]]:
    for name, reason, cut in _CLOSED.findall(complaints):
        if name:
            yield os.fsdecode(name), reason.decode("utf-8", "replace")
        else:  # git shortens what it says
            yield os.fsdecode(cut.rpartition(b"/")[0]), "its path is too long"


def ignored(path: Path) -> bool:
    """Tell whether git ignores ``path``, itself or with a folder above it."""
    folder = path.parent
    done = _run(folder, "check-ignore", "-q", "--", os.path.realpath(path))
    return done is not None and done.returncode == 0


def tracks(path: Path) -> bool:
    """Tell whether git tracks the file ``path``."""
    # A file may be called ":(exclude)x.py" or "*.py".
    literal = ("--literal-pathspecs", "ls-files")
    done = _run(path.parent, *literal, "--error-unmatch", "--", path.name)
    return done is not None and done.returncode == 0


def fork(top: Path, revision: str) -> str | None:
    """Return the commit where HEAD and ``revision`` parted; None if there is no such revision.

    For a revision that HEAD comes from, that is the revision itself.
    """
    if revision.startswith("-"):
        return None
    named = _ask(top, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if not named:
        return None
    commit = named.decode().strip()
    parted = _ask(top, "merge-base", commit, "HEAD")
    return parted.decode().strip() if parted else commit


def changed_since(top: Path, commit: str) -> set[str] | None:
    """Return the names, relative to ``top``, of files that differ from ``commit``.

    Among them are staged, unstaged and untracked ones; files that are gone may be too.
    None if git cannot tell.
    """
    answer = _ask(
        top,
        *("diff-index", "--cached", "--name-only", "-z", "--no-renames", "--no-ext-diff"),
        *("--no-textconv", "--ignore-submodules=all", commit, "--"),
    )
    names = listing(top)
    if answer is None or names is None:
        return None
    unstaged = dirty(top / name for name in names.tracked)
    return {
        *_records(answer),
        *names.untracked,
        *(path.relative_to(top).as_posix() for path in unstaged),
    }


def files_at(top: Path, revision: str) -> tuple[str, ...] | None:
    """Return the files of a revision, relative to ``top``; None if there is no such revision."""
    if revision.startswith("-"):
        return None
    named = _ask(top, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if not named:
        return None
    answer = _ask(top, "ls-tree", "-r", "-z", "--name-only", "--full-tree", named.decode().strip())
    return None if answer is None else tuple(_records(answer))


def content(top: Path, commit: str, name: str) -> bytes | None:
    """Return what a file held in a commit; None if it was not there."""
    return _ask(top, "cat-file", "blob", f"{commit}:{name}")


def dirty(paths: Iterable[Path]) -> set[Path]:
    """Return those of ``paths`` whose present content git could not give back.

    These are files with staged or unstaged changes, files in conflict, and files that git does not
    track. Paths outside any work tree are never among them (see also ``refusal``).

    A file is unchanged if its content, or its content with CRLF turned into LF, has the hash that
    the index holds. A file that git converts otherwise (large file storage, clean filters) is
    unchanged if the index holds a pointer to exactly this content, or if size and time still are
    those that git noted. Anything else counts as changed: asking git would run the repository's
    own filters.
    """
    found: set[Path] = set()
    for top, members in _by_toplevel(paths).items():
        entries, staged = _index(top), _staged(top)
        noted: dict[str, _Noted] | None = None
        for path, relative in members:
            entry = entries.get(relative)
            if entry is None or not entry.merged or staged is None or relative in staged:
                found.add(path)
                continue
            content = _content(top / relative)
            if content is not None and _is_content(top, entry.object_id, content):
                continue
            noted = _noted(top) if noted is None else noted
            if content is None or not _untouched(top / relative, noted.get(relative)):
                found.add(path)
    return found


def _by_toplevel(paths: Iterable[Path]) -> dict[Path, list[tuple[Path, str]]]:
    """Group ``paths`` by work tree, with their real names in it."""
    tops: dict[Path, Path | None] = {}
    groups: dict[Path, list[tuple[Path, str]]] = {}
    for path in paths:
        real = Path(os.path.realpath(path))
        top = _known_top(real.parent, tops)
        if top is not None:
            groups.setdefault(top, []).append((path, real.relative_to(top).as_posix()))
    return groups


def _known_top(folder: Path, tops: dict[Path, Path | None]) -> Path | None:
    """Return the work tree of ``folder``, asking git only where a ``.git`` lies."""
    passed: list[Path] = []
    for here in (folder, *folder.parents):
        if here in tops:
            break
        passed.append(here)
        if os.path.lexists(here / ".git"):
            tops[here] = toplevel(here)
            break
    top = tops.get(here)
    tops.update((here, top) for here in passed)
    return top


def _index(top: Path) -> dict[str, _Entry]:
    entries: dict[str, _Entry] = {}
    for record in _records(_ask(top, "ls-files", "-z", "--stage") or b""):
        attributes, _, name = record.partition("\t")
        _, object_id, stage = attributes.split(" ")
        entries[name] = _Entry(object_id, merged=stage == "0")
    return entries


def _staged(top: Path) -> set[str] | None:
    """Return the names whose index entry differs from HEAD; None if that cannot be known.

    With ``--cached`` git compares the index with a tree and never looks at the work tree.
    """
    answer = _ask(
        top,
        *("diff-index", "--cached", "--name-only", "-z", "--no-renames", "--no-ext-diff"),
        *("--no-textconv", "--ignore-submodules=all", "HEAD", "--"),
    )
    return None if answer is None else set(_records(answer))


def _content(path: Path) -> bytes | None:
    try:
        return files.read(path, _LARGEST)
    except OSError:
        return None


def _is_content(top: Path, object_id: str, content: bytes) -> bool:
    """Tell whether the object ``object_id`` stands for exactly this ``content``."""
    candidates = {content, content.replace(b"\r\n", b"\n")}
    if any(_hash(candidate, len(object_id)) == object_id for candidate in candidates):
        return True
    if not _is_small(top, object_id):
        return False
    pointer = _LFS_OID.search(_ask(top, "cat-file", "blob", object_id) or b"")
    return pointer is not None and hashlib.sha256(content).hexdigest().encode() == pointer.group(1)


def _is_small(top: Path, object_id: str) -> bool:
    """Tell whether the object is as small as large file storage pointers are."""
    size = _ask(top, "cat-file", "-s", object_id)
    return size is not None and size.strip().isdigit() and int(size) < 1024


def _hash(content: bytes, digits: int) -> str:
    algorithm = "sha256" if digits == 64 else "sha1"
    blob = b"blob %d\0" % len(content) + content
    return hashlib.new(algorithm, blob, usedforsecurity=False).hexdigest()


def _noted(top: Path) -> dict[str, _Noted]:
    """Return what the index has noted of each file.

    The output is meant for people and may change: what does not match is left out, and the file
    then counts as changed. So is a file as young as the index, which can have changed unnoticed.
    """
    written = _index_written(top)
    answer = _ask(top, "ls-files", "-z", "--debug") or b""
    found: dict[str, _Noted] = {}
    # Each name ends with NUL; its numbers follow, and then comes the next name.
    name, *rest = answer.split(b"\0")
    for piece in rest:
        numbers = _STAT.search(piece)
        if numbers is not None:
            seconds, nanoseconds, size = map(int, numbers.groups())
            if seconds < written:
                found[os.fsdecode(name)] = _Noted(seconds * 10**9 + nanoseconds, size)
        name = piece[piece.find(b"flags: ") :].partition(b"\n")[2]
    return found


def _index_written(top: Path) -> int:
    """Return the second in which the index was last written; 0 if unknown."""
    location = _ask(top, "rev-parse", "--git-path", "index") or b""
    try:
        return int((top / os.fsdecode(location.removesuffix(b"\n"))).stat().st_mtime)
    except OSError:
        return 0


def _untouched(path: Path, noted: _Noted | None) -> bool:
    """Tell whether git itself would take the file as unchanged without reading it."""
    try:
        now = path.stat()
    except OSError:
        return False
    return noted == _Noted(now.st_mtime_ns, now.st_size & 0xFFFFFFFF)


def _records(answer: bytes) -> list[str]:
    return [os.fsdecode(record) for record in answer.split(b"\0") if record]


def _ask(folder: Path, *arguments: str) -> bytes | None:
    """Return what git prints; None if there is no git, or it fails or takes too long."""
    done = _run(folder, *arguments)
    return done.stdout if done is not None and done.returncode == 0 else None


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes] | None:
    program = shutil.which("git")
    if program is None or not os.path.isabs(program):  # noqa: PTH117 - a plain string
        return None
    here = os.path.realpath(folder)
    if any(
        here == s or here.startswith(s + os.sep) or s.startswith(here + os.sep) for s in _silent
    ):
        return None
    # GIT_DIR, GIT_INDEX_FILE and their like, as set while a hook runs, mean another repository.
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name in _KEPT
    }
    try:
        return subprocess.run(
            [program, *_SWITCHES, "-C", str(folder), *arguments],
            env=environment | _ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        _silent.append(here)
        return None
    except (OSError, ValueError):
        return None
