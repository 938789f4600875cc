"""Where the result of a run goes: into the files, into a copy of the tree, or into a patch."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from porter import comments, files, git, ignores, own, stopping, treecopy, workfolder
from porter.display import findings
from porter.notebook import Notebook
from porter.patch import unified
from porter.report import SiteReport
from porter.runner import Changed, Run
from porter.source import SourceProblem, decode_python, decode_text
from porter.text_site import TextFile
from porter.treecopy import Copied
from porter.workfolder import Change, Undo, WorkFolder
from porter.writing import WriteProblem, write_atomic

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
        done: report paths of the files written.
    """

    undo: list[Path] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)


def in_place(
    run: Run, *, allow_dirty: bool, announce: Callable[[Path], None] = lambda path: None
) -> Written:
    """Write the new content into the files.

    Where git could not give back all of them, or might not, patches that undo the whole run are
    saved first.
    Other runs of porter on the same project wait meanwhile. A signal that ends the run takes
    effect between two files.

    Args:
        run: what to write.
        allow_dirty: change files with uncommitted changes too, and save patches in any case.
        announce: told of each undo patch before a file is touched.

    Raises:
        Uncommitted: nothing has been written.
        WriteProblem: an undo patch could not be written, and so nothing else.
        Stopped: a signal ended the run; the undo patches are about what has been written.
    """
    dirty = git.dirty(changed.file.path for changed in run.changed)
    if dirty and not allow_dirty:
        raise Uncommitted([shown(run, c.path) for c in run.changed if c.file.path in dirty])
    tops = _Tops()
    folders = {c.path: tops.of(c.file.path) or c.file.root for c in run.changed}
    # Also if nothing is dirty: after a run that was stopped, the rest of the files may not be.
    lost = allow_dirty or any(tops.of(c.file.path) is None for c in run.changed)
    with _opened(folders.values()) as work, stopping.deferred() as pending:
        written = _write(run, {p: work[f] for p, f in folders.items()}, lost, announce, pending)
        if pending.number:
            raise stopping.Stopped(pending.number, _so_far(written, len(run.changed)))
    return written


def _so_far(written: Written, count: int) -> str:
    done = len(written.done)
    if not done:
        return "no file was changed"
    if done == count:
        return "all files were changed"
    return f"{done} of {count} files were changed (the same command goes on with the others)"


@contextlib.contextmanager
def _opened(folders: Iterable[Path]) -> Iterator[dict[Path, WorkFolder]]:
    """The work folders in these; in one order for all runs, so that none waits for another's."""
    with contextlib.ExitStack() as stack:
        real = {folder: os.path.realpath(folder) for folder in folders}
        opened = {
            place: stack.enter_context(workfolder.opened(Path(place)))
            for place in sorted(set(real.values()))
        }
        yield {folder: opened[place] for folder, place in real.items()}


def _write(
    run: Run,
    work: Mapping[str, WorkFolder],
    lost: bool,
    announce: Callable[[Path], None],
    pending: stopping.Pending,
) -> Written:
    """Write the files until a signal comes; ``lost`` says that git cannot take all of it back."""
    written = Written()
    ready: list[tuple[Changed, bytes]] = []
    for changed in run.changed:
        before = _before(changed)
        if before is None:
            written.failures[changed.path] = _CHANGED
        else:
            ready.append((changed, before))
    undo = _undo(ready, work, announce) if lost else {}
    for changed, before in ready:
        if pending.number:
            break
        stage = work[changed.path].stage
        path, root = changed.file.path, changed.file.root
        try:
            write_atomic(path, changed.after, expected=before, root=root, stage=stage)
            written.done.append(changed.path)
        except WriteProblem as problem:
            written.failures[changed.path] = problem.message.removeprefix(f"{path}: ")
    done = set(written.done)
    for folder, patch in undo.items():
        names = {_name(c, folder) for c, _ in ready if c.path in done and work[c.path] == folder}
        if patch.only(names):
            written.undo.append(patch.path)
    return written


def _undo(
    ready: Iterable[tuple[Changed, bytes]],
    work: Mapping[str, WorkFolder],
    announce: Callable[[Path], None],
) -> dict[WorkFolder, Undo]:
    """Save the patches that take everything back."""
    groups: dict[WorkFolder, list[Change]] = {}
    for changed, before in ready:
        folder = work[changed.path]
        change = Change(_name(changed, folder), before, changed.after)
        groups.setdefault(folder, []).append(change)
    undo: dict[WorkFolder, Undo] = {}
    try:
        for folder, changes in groups.items():
            undo[folder] = folder.undo(changes)
    except WriteProblem:
        for patch in undo.values():
            patch.only(())
        raise
    for patch in undo.values():
        announce(patch.path)
    return undo


def _name(changed: Changed, work: WorkFolder) -> str:
    """What a patch in a folder calls a file."""
    real = os.path.realpath(changed.file.path)
    return Path(os.path.relpath(real, os.path.realpath(work.folder))).as_posix()


def shown(run: Run, path: str) -> str:
    """A report path as it is to be shown: relative to where the user is."""
    return (run.base / path).as_posix()


def _before(changed: Changed) -> bytes | None:
    """The content the result was made from; None if the file has another now."""
    try:
        data = files.read(changed.file.path)
    except OSError:
        return None
    return data if hashlib.sha256(data).hexdigest() == changed.digest else None


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

    Raises:
        Stopped: a signal ended the run, between two files.
    """
    groups: dict[str, list[SiteReport]] = {}
    for site in findings(run.report):
        if site.rule not in own.CODES:
            groups.setdefault(site.path, []).append(site)
    tops = _Tops()
    folders = {path: tops.of(run.base / path) or run.base for path in groups}
    done, left = 0, {}
    with _opened(folders.values()) as work, stopping.deferred() as pending:
        for path, sites in groups.items():
            if pending.number:
                note = f"{done} findings were silenced (the same command goes on with the others)"
                raise stopping.Stopped(pending.number, note)
            stage = work[folders[path]].stage
            silenced, problem = _silence(run.base / path, path, sites, stage)
            done += silenced
            if problem:
                left[shown(run, path)] = problem
    return done, left


_UNCERTAIN = "a comment cannot be added with certainty; use a baseline or per-file-ignores"


def _silence(
    path: Path, relative: str, sites: Sequence[SiteReport], stage: Path | None
) -> tuple[int, str]:
    """Write comments into one file; returns how many findings they silence, and why not more."""
    language = comments.language(relative)
    try:
        data = files.read(path)
        if language == "notebook":
            return _silence_cells(path, data, sites, stage)
        if language != "python" and not comments.mark(TextFile("", relative)):
            return 0, "this format has no comments; use a baseline or per-file-ignores"
        source = (decode_python if language == "python" else decode_text)(str(path), data)
        lines = comments.lines_of(source.text)
        if not all(ignores.is_there(site, lines) for site in sites):
            return 0, _CHANGED
        text = ignores.add(source.text, _by_line(sites), relative)
        if text is None:
            return 0, _UNCERTAIN
        write_atomic(path, source.encode(text), expected=data, stage=stage)
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


def _silence_cells(
    path: Path, data: bytes, sites: Sequence[SiteReport], stage: Path | None
) -> tuple[int, str]:
    """The same for a notebook: comments in its Python cells."""
    from porter.syntax import LineIndex, parse

    notebook = Notebook.parse(data, parse)
    lines = comments.lines_of(notebook.text)
    index, numbers = LineIndex(notebook.text), {}
    for number in range(1, len(lines) + 1):
        at = notebook.locate(index.line_start(number))
        numbers[at.cell_index + 1, at.line] = number
    hidden = {index.position(magic.start)[0] for magic in notebook.magics}
    wanted: dict[int, set[str]] = {}
    others = 0
    for site in sites:
        number = numbers.get((site.cell or 0, site.line), 0)
        if number and not ignores.is_there(site, lines, number):
            return 0, _CHANGED
        if number and number not in hidden:
            wanted.setdefault(number, set()).add(site.rule)
        else:
            others += 1
    text = ignores.add(notebook.text, wanted)
    if text is None:
        return 0, _UNCERTAIN
    write_atomic(path, notebook.rewrite(text), expected=data, stage=stage)
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
        real = Path(os.path.realpath(changed.file.path))
        if not real.is_relative_to(os.path.realpath(changed.file.root)):
            raise WriteProblem(
                f"{shown(run, changed.path)}: a symbolic link leads out of the folder; left alone"
            )
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
        Stopped: a signal ended the run.
    """
    for changed in run.changed:
        if _before(changed) is None:
            raise WriteProblem(f"{shown(run, changed.path)}: {_CHANGED}")
    return treecopy.copy_tree(roots, out, changes={c.file.path: c.after for c in run.changed})


def check_copy(run: Run, roots: Sequence[Path], out: Path) -> None:
    """Find out before a long wait that `as_copy` would be refused.

    Raises:
        WriteProblem: `out` is not usable.
    """
    treecopy.check(roots, out, changes={c.file.path: c.after for c in run.changed})
