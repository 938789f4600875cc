"""Which files a run reads.

Inside a git work tree these are the files that git tracks or would add; elsewhere the folders are
walked. What belongs to others (virtual environments, vendored copies, build output) is left out,
and left out code is reported, so that nothing is missed silently.
"""

from __future__ import annotations

import itertools
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from porter.problem import Problem

if TYPE_CHECKING:
    from porter import git

Kind = Literal["python", "notebook", "other"]

MAX_BYTES = 10_000_000
"""A larger file is reported, not read, unless it is named explicitly."""

_SUFFIXES: dict[str, Kind] = {
    ".py": "python",
    ".pyi": "python",
    ".pyw": "python",
    ".ipynb": "notebook",
}
_SILENT = frozenset(
    {".git", ".hg", ".svn", ".venv", "node_modules", "__pycache__", ".tox", ".nox", ".mypy_cache"}
    | {".ruff_cache", ".pytest_cache", ".hypothesis", ".eggs", ".ipynb_checkpoints", ".porter"}
)
_VENDORED = frozenset(
    {"third_party", "3rdparty", "vendor", "vendored", "_vendor", "extern", "external"}
)
_BUILT = frozenset({"build", "dist"})
#: Characters of a path in a note; one may have thousands.
_SHOWN = 300
#: Characters of a pattern; a path has no more.
_LONGEST = 4096
_SHEBANG = rb"#![^\r\n]*?(?<=[!/ \t])(?:(?:python|pypy)[\d.]*w?|uv run)(?:\s|$)"


class UsageProblem(Problem):
    """A mistake in what the user asked for; ``message`` is one line."""

    def __init__(self, message: str) -> None:
        """Keep ``message`` as the one line to show."""
        super().__init__(message)
        self.message = message


class InputFile(NamedTuple):
    """One file to read: ``path`` opens it, ``relative`` (POSIX, from ``root``) names it.

    ``root`` is the folder given to ``discover``, or the parent of a file given to it. ``kind``
    is "other" for what the caller's ``also`` chose.
    """

    root: Path
    path: Path
    relative: str
    kind: Kind


class Skipped(NamedTuple):
    """A file or folder that was left out, and why; ``relative`` is POSIX, from its root."""

    relative: str
    reason: str


class Discovery(NamedTuple):
    """What a run reads and what it leaves out; ``notes`` are remarks about whole folders."""

    files: tuple[InputFile, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...] = ()


def discover(
    paths: Sequence[Path],
    *,
    exclude: Sequence[str] = (),
    force_exclude: bool = False,
    exclude_base: Path | None = None,
    also: Callable[[str], bool] | None = None,
) -> Discovery:
    """Return the files at and below ``paths``, sorted by path, each once.

    Args:
        paths: folders and files. A file named here is taken whatever its name, size and folder.
        exclude: patterns as in a .gitignore, relative to each folder given; what they match is
            left out without a word.
        force_exclude: take a file named in ``paths`` only if it would be found in its folder:
            for programs that name files, such as pre-commit.
        exclude_base: the folder that patterns for such files are relative to; by default the
            current one.
        also: chooses further files by relative path; their kind is "other".

    Raises:
        UsageProblem: a path does not exist.
    """
    for path in paths:
        if not os.path.exists(path):  # noqa: PTH110 - Path.exists raises where access is denied
            raise UsageProblem(f"no such file or folder: {path}")
    # Outer folders first: where arguments overlap, the result does not depend on their order.
    folders = sorted({path for path in paths if path.is_dir()}, key=_depth)
    search = _Search(Patterns(exclude), also, frozenset(map(os.path.realpath, folders)))
    for folder in folders:
        search.folder(folder)
    for path in sorted({path for path in paths if not path.is_dir()}):
        if not force_exclude:
            search.named(path)
        elif not search.patterns.match_outer(path, exclude_base or Path.cwd()):
            search.offered(path)
    search.follow_links()
    return Discovery(
        files=tuple(sorted(search.found.values(), key=lambda file: file.path.parts)),
        skipped=tuple(sorted(set(search.skipped))),
        notes=tuple(search.notes),
    )


def _depth(folder: Path) -> tuple[int, str]:
    real = os.path.realpath(folder)
    return (real.count(os.sep), real)


class Patterns:
    """Exclusion patterns with the meaning they have in a .gitignore (``man gitignore``)."""

    def __init__(self, patterns: Sequence[str]) -> None:
        """Compile ``patterns``; blank ones and comments say nothing.

        Raises:
            UsageProblem: one is longer than any path.
        """
        lines = [line.strip() for line in patterns]
        if any(len(line) > _LONGEST for line in lines):
            raise UsageProblem(
                f"a pattern of files to leave out is longer than {_LONGEST} characters"
            )
        self._rules = [_Rule.parse(line) for line in lines if line and not line.startswith("#")]

    def match(self, relative: str, *, folder: bool) -> bool:
        """Tell whether ``relative`` itself matches; the last pattern that does decides."""
        for rule in reversed(self._rules):
            if (folder or not rule.folders_only) and rule.regex.fullmatch(relative):
                return not rule.negated
        return False

    def match_below(self, relative: str) -> bool:
        """Tell whether the file ``relative`` or a folder above it matches."""
        if not self._rules:
            return False
        parts = relative.split("/")
        above = ("/".join(parts[:end]) for end in range(1, len(parts)))
        return any(self.match(f, folder=True) for f in above) or self.match(relative, folder=False)

    def match_outer(self, path: Path, base: Path) -> bool:
        """Tell the same for any path: relative to ``base``, or by its whole path outside."""
        full = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links
        start = Path(os.path.abspath(base))  # noqa: PTH100
        inside = full.relative_to(start) if full.is_relative_to(start) else full
        return self.match_below(inside.as_posix().lstrip("/"))


class _Rule(NamedTuple):
    """One compiled exclusion pattern."""

    regex: re.Pattern[str]
    folders_only: bool
    negated: bool

    @staticmethod
    def parse(pattern: str) -> _Rule:
        negated = pattern.startswith("!")
        body = (pattern[1:] if negated else pattern).removeprefix("./")
        folders_only = body.endswith("/")
        body = body.rstrip("/")
        regex = _translated(body.lstrip("/"), anywhere="/" not in body)
        return _Rule(re.compile(regex, re.S), folders_only, negated)


_GLOB = (
    r"(?P<lead>^\*\*/)|(?P<middle>/\*\*(?=/))|(?P<tail>/\*\*$)|(?P<star>\*+)|(?P<any>\?)"
    r"|\[(?P<negate>[!^]?)(?P<set>\]?[^\]/]*)\]|\\(?P<quoted>.)|(?P<plain>.)"
)


def _translated(glob: str, *, anywhere: bool) -> str:
    """Return the regular expression for a gitignore pattern without its outer slashes.

    Wherever a `*` or `**` comes again, the first place where what stands before it fits serves as
    well as any other. The expression keeps that place, so that no pattern takes a time that is
    exponential in its stars, as fnmatch does in the standard library.

    Args:
        glob: the pattern.
        anywhere: whether it may match in any folder.
    """
    chunks, tail = _chunks(glob)
    if anywhere:
        chunks.insert(0, [])
    names = (f"g{number}" for number in itertools.count())
    pieces: list[str] = []
    for index, chunk in enumerate(chunks):
        final = index == len(chunks) - 1 and not tail
        text = "/".join(_segment(runs, names) for runs in chunk) + ("" if final else "(?=/)")
        if index == 0:
            pieces.append(text if chunk else "")
        elif index == 1 and not chunks[0]:
            pieces.append(_chosen(f"(?:[^/]*/)*?{text}", names, final))
        else:
            pieces.append(_chosen(f"(?:/[^/]*)*?/{text}", names, final))
    return "".join(pieces) + ("/.+" if tail else "")


def _chunks(glob: str) -> tuple[list[list[list[str]]], bool]:
    """Split a pattern at each `**`, these pieces at each slash, and those at each `*`.

    Returns:
        The pieces, of which the first is empty if the pattern starts with `**`, and whether
        it ends with `**`. The innermost are regular expressions of a fixed width.
    """
    chunks: list[list[list[str]]] = [[[""]]]
    tail = False
    for found in re.finditer(_GLOB, glob, re.S):
        kind, character = found.lastgroup, found["quoted"] or found["plain"]
        if kind == "lead":
            chunks = [[], [[""]]]
        elif kind == "middle":
            if chunks[-1]:
                chunks.append([])
        elif kind == "tail":
            tail = True
            if not chunks[-1] and len(chunks) > 1:  # "/**/**" is one
                chunks.pop()
        elif kind == "star":
            chunks[-1][-1].append("")
        elif character == "/":
            chunks[-1].append([""])
        elif kind == "any":
            chunks[-1][-1][-1] += "[^/]"
        elif kind == "set":
            chunks[-1][-1][-1] += _character_set(found["negate"], found["set"])
        else:
            chunks[-1][-1][-1] += re.escape(character)
    return chunks, tail


def _segment(runs: list[str], names: Iterator[str]) -> str:
    """The regular expression for one name: `runs` stand between its stars."""
    first, *more = runs
    if not more:
        return first
    inner = (_chosen(f"[^/]*?{run}", names, False) for run in more[:-1])
    return f"{first}{''.join(inner)}[^/]*{more[-1]}"


def _chosen(regex: str, names: Iterator[str], final: bool) -> str:
    """The expression, never to be matched anew elsewhere; Python 3.10 has no atomic groups."""
    name = next(names)
    return regex if final else f"(?=(?P<{name}>{regex}))(?P={name})"


def _character_set(negate: str, members: str) -> str:
    escaped = re.sub(r"([\\\[\]^&~|])", r"\\\1", members)
    regex = f"(?!/)[{'^' if negate else ''}{escaped}]"
    try:
        re.compile(regex)
    except re.error:  # such as an empty set or [z-a]: it matches nothing, as in git
        return "(?!)"
    return regex


@dataclass(eq=False, repr=False)
class _Search:
    """The files found so far, by real path."""

    patterns: Patterns
    also: Callable[[str], bool] | None
    given: frozenset[str]
    trees: list[_Tree] = field(default_factory=list)
    found: dict[str, InputFile] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    offering: dict[Path, _Tree] = field(default_factory=dict)

    def folder(self, root: Path) -> None:
        """Add the files below ``root``."""
        from porter import git

        tree = _Tree(self, root, os.path.realpath(root))
        complaint = git.refusal(root)
        if complaint is not None:
            self.notes.append(f"{root}: git cannot read this repository, so its ignore rules do "
                              f"not apply: {complaint}")  # fmt: skip
        known = git.listing(root)
        if known is not None and not known.tracked and not known.untracked and git.ignored(root):
            known = None  # the user asked for an ignored folder
        if known is None:
            tree.walk("")
        else:
            tree.listed("", known)
        self.trees.append(tree)

    def follow_links(self) -> None:
        """Deal with the symbolic links met on the way, now that all real files are known."""
        for tree in self.trees:
            tree.follow_links()

    def named(self, path: Path) -> None:
        """Add a file that the user named."""
        try:
            regular = stat.S_ISREG(path.stat().st_mode)
        except OSError:
            regular = False
        if not regular:
            self.skipped.append(Skipped(path.name, "not a regular file"))
            return
        root, relative = _seen_from_here(path)
        kind = self.kind(relative, str(path)) or ("other" if path.suffix else "python")
        self.found.setdefault(os.path.realpath(path), InputFile(root, path, relative, kind))

    def offered(self, path: Path) -> None:
        """Add a file that a program named, if a search of its folder would find it."""
        if path.is_symlink():
            return
        root, relative = _seen_from_here(path)
        top = _top_of(path) if root != Path() else None
        if top is not None:
            root, relative = top, Path(os.path.relpath(os.path.realpath(path), top)).as_posix()
        tree = self.offering.setdefault(root, _Tree(self, root, os.path.realpath(root)))
        tree.offered(relative, path)

    def kind(self, relative: str, path: str) -> Kind | None:
        """Return the kind of the file ``path``, None if it is not read."""
        name = relative.rpartition("/")[2]
        suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - 100,000 names
        kind = _SUFFIXES.get(suffix)
        if kind is None and not suffix and _is_python_script(path):
            kind = "python"
        if kind is None and self.also is not None and self.also(relative):
            kind = "other"
        return kind


class _Tree:
    """One folder given by the user, ``real`` being its path without links."""

    def __init__(self, search: _Search, root: Path, real: str) -> None:
        self._search = search
        self._root = root
        self._real = real
        self._links: list[str] = []
        self._verdicts: dict[str, bool] = {"": True}
        self._tracked_folders: set[str] = set()

    def walk(self, start: str) -> None:
        """Add the files below the folder ``start``, asking git only about inner repositories."""
        waiting = [start]
        while waiting:
            here = waiting.pop()
            try:
                with os.scandir(self._path(here)) as scan:
                    entries = list(scan)
            except OSError as problem:
                self._closed(here, problem.strerror or str(problem))
                continue
            if here and any(entry.name == ".git" for entry in entries):
                from porter import git

                known = git.listing(Path(self._path(here)))
                if known is not None:
                    self.listed(here, known)
                    continue
            waiting.extend(self._entered(here, entries))

    def _entered(self, here: str, entries: list[os.DirEntry[str]]) -> Iterator[str]:
        """Add the files among ``entries``; yield the folders to go into."""
        for entry in entries:
            relative = f"{here}/{entry.name}" if here else entry.name
            if entry.is_symlink():
                self._links.append(relative)
            elif entry.is_dir(follow_symlinks=False):
                if self._entry_verdict(relative):
                    yield relative
            else:
                self._file(relative)

    def listed(self, start: str, known: git.Listing) -> None:
        """Add the files of a repository that lies at ``start``."""
        prefix = f"{start}/" if start else ""
        for name in known.tracked:
            parts = name.split("/")
            if not _BUILT.isdisjoint(parts[:-1]):
                folders = ("/".join(parts[:end]) for end in range(1, len(parts)))
                self._tracked_folders.update(prefix + folder for folder in folders)
        for name, reason in known.closed:
            if self._all_entered(prefix + name):
                self._closed(prefix + name, reason)
        for name in known.nested:
            if self._all_entered(prefix + name) and os.path.isdir(self._path(prefix + name)):  # noqa: PTH112
                self._skip(prefix + name, "another git repository; name it to include it")
        for names in (known.tracked, known.untracked):
            for name in names:
                relative = prefix + name
                if self._all_entered(relative.rpartition("/")[0]):
                    self._file(relative, maybe_link=True)

    def offered(self, relative: str, path: Path) -> None:
        """Add one file if a search would find it."""
        folder = relative.rpartition("/")[0]
        parts = folder.split("/")
        if not _BUILT.isdisjoint(parts) and _tracks(path):
            above = ("/".join(parts[:end]) for end in range(1, len(parts) + 1))
            self._tracked_folders.update(above)
        if self._all_entered(folder):
            self._file(relative)

    def follow_links(self) -> None:
        """Report the links met on the way whose target may be code that is not read."""
        for relative in sorted(self._links):
            reason = self._link_problem(relative)
            if reason is not None:
                self._skip(relative, reason)

    def _all_entered(self, folder: str) -> bool:
        """Tell whether ``folder`` and all folders above it are gone into."""
        verdict = self._verdicts.get(folder)
        if verdict is not None:
            return verdict
        end, entered = -1, True
        while entered and end < len(folder):
            end = folder.find("/", end + 1)
            end = len(folder) if end < 0 else end
            above = folder[:end]
            if above not in self._verdicts:
                self._verdicts[above] = self._entry_verdict(above)
            entered = self._verdicts[above]
        self._verdicts[folder] = entered
        return entered

    def _entry_verdict(self, folder: str) -> bool:
        """Tell whether ``folder`` itself is gone into, and report it if its code is left out."""
        name = folder.rpartition("/")[2]
        if name in _SILENT or name.endswith(".egg-info"):
            return False
        if self._search.patterns.match(folder, folder=True):
            return False
        path = self._path(folder)
        reason = self._folder_problem(folder, path, name)
        # A folder that is given too has a turn of its own.
        if reason is not None and os.path.lexists(path) and path not in self._search.given:
            self._skip(folder, reason)
        return reason is None

    def _folder_problem(self, folder: str, path: str, name: str) -> str | None:
        if os.path.islink(path):  # noqa: PTH114 - a listed folder that a link has replaced
            return "symbolic link in place of a folder"
        if name in _VENDORED:
            return "vendored third-party code; name it to include it"
        if name == "site-packages" or _is_environment(path, name):
            return "installed packages"
        if name in _BUILT and not self._is_source(folder, path):
            return "build output; name it to include it"
        return None

    def _is_source(self, folder: str, path: str) -> bool:
        """Tell a package that is called build or dist from the output of a build."""
        return folder in self._tracked_folders or os.path.lexists(f"{path}/__init__.py")

    def _file(self, relative: str, *, maybe_link: bool = False) -> None:
        """Add the file ``relative`` if it is one to read."""
        path = self._path(relative)
        try:
            mode = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return  # tracked, but gone from disk
        except OSError as problem:
            self._closed(relative.rpartition("/")[0], problem.strerror or str(problem))
            return
        if stat.S_ISLNK(mode.st_mode):
            if maybe_link:
                self._links.append(relative)
            return
        if self._search.patterns.match(relative, folder=False):
            return
        if not stat.S_ISREG(mode.st_mode):
            if _named_like_code(relative):
                self._skip(relative, "not a regular file")
            return
        kind = self._search.kind(relative, path)
        if kind is None:
            return
        if mode.st_size > MAX_BYTES:
            self._skip(relative, f"larger than {MAX_BYTES // 1_000_000} MB; name it to include it")
            return
        self._add(relative, kind)

    def _add(self, relative: str, kind: Kind) -> None:
        real = os.path.join(self._real, *relative.split("/"))  # noqa: PTH118
        if real not in self._search.found:
            file = InputFile(self._root, self._root / relative, relative, kind)
            self._search.found[real] = file

    def _link_problem(self, relative: str) -> str | None:
        """Return why the link is not read; None if its target is read, or no concern of ours."""
        patterns = self._search.patterns
        if patterns.match(relative, folder=False) or patterns.match(relative, folder=True):
            return None
        path = self._path(relative)
        target = os.path.realpath(path)
        try:
            mode = os.stat(path).st_mode  # noqa: PTH116
        except OSError as problem:
            if not _named_like_code(relative):
                return None
            return f"symbolic link that leads nowhere: {problem.strerror}"
        if target in self._search.found:
            return None
        if not any(_is_inside(target, root) for root in self._search.given):
            matters = stat.S_ISDIR(mode) or _named_like_code(relative)
            return "symbolic link out of the folder" if matters else None
        if stat.S_ISREG(mode) and _named_like_code(relative):
            return "symbolic link to a file that is not read"
        return None  # a folder inside is gone into by its own name

    def _path(self, relative: str) -> str:
        return f"{self._real}/{relative}" if relative else self._real

    def _closed(self, folder: str, reason: str) -> None:
        """Say that nothing is known of what a folder holds, to whoever reads no report too."""
        skipped = Skipped(folder or ".", f"cannot be read: {reason}")
        if skipped not in self._search.skipped:
            self._search.skipped.append(skipped)
            place = (self._root / folder).as_posix()
            place = place if len(place) <= _SHOWN else place[:_SHOWN] + "..."
            self._search.notes.append(f"{place}: cannot be read, so nothing in it was: {reason}")

    def _skip(self, relative: str, reason: str) -> None:
        self._search.skipped.append(Skipped(relative or ".", reason))


def _top_of(path: Path) -> Path | None:
    from porter import git

    return git.toplevel(path)


def _tracks(path: Path) -> bool:
    from porter import git

    return git.tracks(path)


def _seen_from_here(path: Path) -> tuple[Path, str]:
    """The current folder and the path from there; its own folder and name outside of that."""
    full, here = os.path.abspath(path), os.path.abspath(Path.cwd())  # noqa: PTH100
    if _is_inside(full, here):
        return Path(), Path(os.path.relpath(full, here)).as_posix()
    return path.parent, path.name


def _is_inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _is_environment(path: str, name: str) -> bool:
    """Tell whether the folder is a virtual environment; ``env`` alone may be anybody's package."""
    signs = ["pyvenv.cfg", "conda-meta"]
    if name in {"venv", "env"}:
        signs += ["bin/activate", "Scripts/activate"]
    return any(os.path.lexists(f"{path}/{sign}") for sign in signs)


def is_left_out(path: str, name: str) -> bool:
    """Tell whether no search goes into the folder ``path`` for what it is called or holds.

    A search may leave out more: this asks neither git nor about the folders above.
    """
    if name in _SILENT or name.endswith(".egg-info") or name == "site-packages":
        return True
    return _is_environment(path, name)


def _named_like_code(relative: str) -> bool:
    return os.path.splitext(relative)[1].lower() in _SUFFIXES  # noqa: PTH122


def _is_python_script(path: str) -> bool:
    """Tell whether the file's first line names a Python interpreter."""
    try:
        # A pipe would block; only regular files get here, but one may have been swapped.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return False
    try:
        start = os.read(descriptor, 256)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return re.match(_SHEBANG, start) is not None
