"""Where the result of a run goes: into the files, into a copy of the tree, or into a patch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from porter import comments, git, ignores, own
from porter.display import findings
from porter.notebook import Notebook
from porter.patch import unified
from porter.report import SiteReport
from porter.runner import Changed, Run
from porter.source import SourceProblem, decode_python, decode_text
from porter.text_site import TextFile
from porter.writing import Change, Copied, WriteProblem, copy_tree, undo_patch, write_atomic

_CHANGED = "changed on disk during the run; left alone"


class Uncommitted(Exception):
    """Files to change hold work that git could not give back; `paths` are theirs, as shown."""

    def __init__(self, paths: Sequence[str]) -> None:
        """Keep the paths."""
        super().__init__(*paths)
        self.paths = tuple(paths)


@dataclass
class Written:
    """What became of the files to change.

    Args:
        undo: patches that take the changes back.
        failures: reason by report path for what could not be written.
        done: number of files written.
    """

    undo: list[Path] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    done: int = 0


def in_place(
    run: Run, *, allow_dirty: bool, announce: Callable[[Path], None] = lambda path: None
) -> Written:
    """Write the new content into the files.

    Content that git could not give back is saved as an undo patch first.

    Args:
        run: what to write.
        allow_dirty: change files with uncommitted changes too.
        announce: told of each undo patch before a file is touched.

    Raises:
        Uncommitted: nothing has been written.
        WriteProblem: an undo patch could not be written, and so nothing else.
    """
    written = Written()
    dirty = git.dirty(changed.file.path for changed in run.changed)
    if dirty and not allow_dirty:
        raise Uncommitted([shown(run, c.path) for c in run.changed if c.file.path in dirty])
    ready: list[tuple[Changed, bytes]] = []
    for changed in run.changed:
        before = _before(changed)
        if before is None:
            written.failures[changed.path] = _CHANGED
        else:
            ready.append((changed, before))
    for folder, changes in _to_undo(ready, dirty).items():
        written.undo.append(undo_patch(changes, folder))
        announce(written.undo[-1])
    for changed, before in ready:
        try:
            write_atomic(changed.file.path, changed.after, expected=before, root=changed.file.root)
            written.done += 1
        except WriteProblem as problem:
            prefix = f"{changed.file.path}: "
            written.failures[changed.path] = problem.message.removeprefix(prefix)
    return written


def shown(run: Run, path: str) -> str:
    """A report path as it is to be shown: relative to where the user is."""
    return (run.base / path).as_posix()


def _before(changed: Changed) -> bytes | None:
    """The content the result was made from; None if the file has another now."""
    try:
        data = changed.file.path.read_bytes()
    except OSError:
        return None
    return data if hashlib.sha256(data).hexdigest() == changed.digest else None


def _to_undo(ready: Iterable[tuple[Changed, bytes]], dirty: set[Path]) -> dict[Path, list[Change]]:
    """What git cannot take back, by the folder that the patch will apply in."""
    tops = _Tops()
    found: dict[Path, list[Change]] = {}
    for changed, before in ready:
        path, top = changed.file.path, tops.of(changed.file.path)
        if top is not None and path not in dirty:
            continue
        folder = top or changed.file.root
        real, start = os.path.realpath(path), os.path.realpath(folder)
        relative = Path(os.path.relpath(real, start)).as_posix()
        found.setdefault(folder, []).append(Change(relative, before, changed.after))
    return found


class _Tops:
    """The work trees of files, asking git once for each folder that holds a `.git`."""

    def __init__(self) -> None:
        self._known: dict[Path, Path | None] = {}

    def of(self, path: Path) -> Path | None:
        folder = Path(os.path.realpath(path)).parent
        passed: list[Path] = []
        top: Path | None = None
        for here in (folder, *folder.parents):
            if here in self._known:
                top = self._known[here]
                break
            passed.append(here)
            if os.path.lexists(here / ".git"):
                top = git.toplevel(here)
                break
        self._known.update((here, top) for here in passed)
        return top


# Comments ---------------------------------------------------------------------------------------


def add_ignores(run: Run) -> tuple[int, dict[str, str]]:
    """Silence the findings of a run by comments in their files.

    Returns:
        How many were silenced, and by shown path why others were not.
    """
    groups: dict[str, list[SiteReport]] = {}
    for site in findings(run.report):
        if site.rule not in own.CODES:
            groups.setdefault(site.path, []).append(site)
    done, left = 0, {}
    for path, sites in groups.items():
        silenced, problem = _silence(run.base / path, path, sites)
        done += silenced
        if problem:
            left[shown(run, path)] = problem
    return done, left


_UNCERTAIN = "a comment cannot be added with certainty; use a baseline or per-file-ignores"


def _silence(path: Path, relative: str, sites: Sequence[SiteReport]) -> tuple[int, str]:
    """Write comments into one file; returns how many findings they silence, and why not more."""
    language = comments.language(relative)
    try:
        data = path.read_bytes()
        if language == "notebook":
            return _silence_cells(path, data, sites)
        if language != "python" and not comments.mark(TextFile("", relative)):
            return 0, "this format has no comments; use a baseline or per-file-ignores"
        source = (decode_python if language == "python" else decode_text)(str(path), data)
        text = ignores.add(source.text, _by_line(sites), relative)
        if text is None:
            return 0, _UNCERTAIN
        write_atomic(path, source.encode(text), expected=data)
    except OSError as problem:
        return 0, f"cannot be read: {problem.strerror or problem}"
    except (SourceProblem, WriteProblem) as problem:
        return 0, problem.message.removeprefix(f"{path}: ")
    return len(sites), ""


def _by_line(sites: Iterable[SiteReport]) -> dict[int, set[str]]:
    wanted: dict[int, set[str]] = {}
    for site in sites:
        wanted.setdefault(site.line, set()).add(site.rule)
    return wanted


def _silence_cells(path: Path, data: bytes, sites: Sequence[SiteReport]) -> tuple[int, str]:
    """The same for a notebook: comments in its Python cells."""
    from porter.syntax import LineIndex, parse

    notebook = Notebook.parse(data, parse)
    index, numbers = LineIndex(notebook.text), {}
    for number in range(1, len(comments.lines_of(notebook.text)) + 1):
        at = notebook.locate(index.line_start(number))
        numbers[at.cell_index + 1, at.line] = number
    hidden = {index.position(magic.start)[0] for magic in notebook.magics}
    wanted: dict[int, set[str]] = {}
    others = 0
    for site in sites:
        number = numbers.get((site.cell or 0, site.line), 0)
        if number and number not in hidden:
            wanted.setdefault(number, set()).add(site.rule)
        else:
            others += 1
    text = ignores.add(notebook.text, wanted)
    if text is None:
        return 0, _UNCERTAIN
    write_atomic(path, notebook.rewrite(text), expected=data)
    why = "commands in cells take no comments; use a baseline or per-file-ignores"
    return len(sites) - others, why if others else ""


# Patch ------------------------------------------------------------------------------------------


def as_patch(run: Run, stdin: bytes | None = None) -> bytes:
    """The changes as one patch for `git apply`.

    Its paths are relative to the top of the work tree, as git wants them; outside of one, to the
    current folder or else to the folder given.

    Raises:
        WriteProblem: the files lie in several work trees, or changed during the run.
    """
    tops = _Tops()
    places = {tops.of(c.file.path) for c in run.changed} if stdin is None else {None}
    if len(places) > 1:
        raise WriteProblem(
            "--diff: the files lie in different git repositories; run porter on each"
        )
    start = next(iter(places), None) or _outside(run)
    pieces = []
    for changed in run.changed:
        before = stdin if stdin is not None else _before(changed)
        if before is None:
            raise WriteProblem(f"{shown(run, changed.path)}: {_CHANGED}")
        real = os.path.realpath(changed.file.path)
        relative = Path(os.path.relpath(real, os.path.realpath(start))).as_posix()
        pieces.append(unified(relative, before, changed.after))
    return b"".join(pieces)


def _outside(run: Run) -> Path:
    here = Path.cwd()
    base = Path(os.path.realpath(run.base))
    return here if base.is_relative_to(os.path.realpath(here)) else base


# Copy -------------------------------------------------------------------------------------------


def as_copy(run: Run, roots: Sequence[Path], out: Path) -> Copied:
    """Copy the roots to `out`, migrated.

    Raises:
        WriteProblem: `out` is not usable, or a file changed during the run.
    """
    for changed in run.changed:
        if _before(changed) is None:
            raise WriteProblem(f"{shown(run, changed.path)}: {_CHANGED}")
    return copy_tree(roots, out, changes={c.file.path: c.after for c in run.changed})
