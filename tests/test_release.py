"""Releases are the same bytes wherever they are built, and what they depend on is written down."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("porter", "rewrites", "pyproject.toml", "README.md", "LICENSE")
EPOCH = 1_700_000_000


def _tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tool_{name}", ROOT / f"docs/tools/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for it
    spec.loader.exec_module(module)
    return module


release, dependencies = _tool("release"), _tool("dependencies")
needs_build = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in release.NEEDED),
    reason="build and setuptools are not installed",
)


# Releases ---------------------------------------------------------------------------------------


@needs_build
def test_two_builds_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Folder, umask, time, time zone, locale and hash seed differ."""
    source = tmp_path / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source)
    (source / "porter" / "query.py").chmod(0o777)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(EPOCH))
    out = tmp_path / "out"
    assert release.main(["--check", "--source", str(source), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    wheel, sdist = sorted(out.iterdir(), key=lambda path: path.suffix, reverse=True)
    assert f"{release.digest(wheel)}  {wheel.name}" in printed
    with zipfile.ZipFile(wheel) as archive:
        assert {i.date_time for i in archive.infolist()} == {(2023, 11, 14, 22, 13, 20)}
        assert {i.external_attr >> 16 for i in archive.infolist()} <= {0o100644, 0o100755}
        assert archive.namelist()[-1].endswith(".dist-info/top_level.txt")
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members} == {
            (EPOCH, 0, 0, "", "")
        }
        assert any(m.name.endswith("rewrites/device.py") for m in members)


def _tar(path: Path, names: dict[str, bytes], mode: int, mtime: int, uid: int) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in names.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime, info.uid, info.uname = (
                len(data),
                mode,
                mtime,
                uid,
                "me",
            )
            archive.addfile(info, io.BytesIO(data))
    return path


def _wheel(path: Path, names: dict[str, bytes], mode: int, year: int) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in names.items():
            info = zipfile.ZipInfo(name, (year, 1, 2, 3, 4, 6))
            info.external_attr = mode << 16
            archive.writestr(info, data)
    return path


def test_only_the_content_of_an_archive_counts(tmp_path: Path) -> None:
    content = {"p/b.py": b"b", "p/a.py": b"a", "p-1.dist-info/RECORD": b"r"}
    turned = dict(reversed(content.items()))
    other = {**content, "p/a.py": b"changed"}
    for one, two, three in (
        (
            _tar(tmp_path / "1.tar.gz", content, 0o664, 1, 0),
            _tar(tmp_path / "2.tar.gz", turned, 0o600, 2_000_000_000, 1000),
            _tar(tmp_path / "3.tar.gz", other, 0o664, 1, 0),
        ),
        (
            _wheel(tmp_path / "1.whl", content, 0o100664, 1999),
            _wheel(tmp_path / "2.whl", turned, 0o100600, 2033),
            _wheel(tmp_path / "3.whl", other, 0o100664, 1999),
        ),
    ):
        packed = [
            release.packed(path, tmp_path / f"packed-{path.name}", EPOCH, "/folder").read_bytes()
            for path in (one, two, three)
        ]
        assert one.read_bytes() != two.read_bytes()
        assert packed[0] == packed[1]
        assert packed[0] != packed[2]
        assert release._differing(one, three) == " in p/a.py"
    named = _wheel(tmp_path / "4.whl", {"p/a.py": b"x = '/folder/a'"}, 0o100644, 2000)
    with pytest.raises(release.Failed, match=r"p/a.py names the folder"):
        release.packed(named, tmp_path / "5.whl", EPOCH, "/folder")


def test_a_link_in_a_source_distribution_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        link = tarfile.TarInfo("a")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(release.Failed, match="neither a file nor a folder"):
        release._pack_source(tmp_path / "x.tar.gz", tmp_path / "y.tar.gz", EPOCH)


def test_the_time_of_a_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    with pytest.raises(release.Failed, match="SOURCE_DATE_EPOCH is not set"):
        release.date_of(tmp_path)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "5")
    assert release.date_of(tmp_path) == release.FIRST
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "now")
    with pytest.raises(release.Failed, match="cannot be 'now'"):
        release.date_of(tmp_path)


# Dependencies -----------------------------------------------------------------------------------


def _listed() -> dict[str, dict[str, tuple[str, str, str]]]:
    """The tables of docs/dependencies.md: by heading and package the other cells."""
    found: dict[str, dict[str, tuple[str, str, str]]] = {}
    group = ""
    for line in (ROOT / "docs" / "dependencies.md").read_text("utf-8").splitlines():
        if line.startswith("#"):
            group = line.lstrip("# ").lower().replace(" ", "-")
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 4 and cells[0] not in ("Package", "---"):
            found.setdefault(group, {})[cells[0]] = (cells[1].strip("`"), cells[2], cells[3])
    return found


def test_the_page_lists_what_pyproject_declares() -> None:
    declared = {
        group: dict(map(dependencies.split, requirements))
        for group, requirements in dependencies.declared().items()
    }
    listed = _listed()
    assert {g: {n: row[0] for n, row in rows.items()} for g, rows in listed.items()} == declared
    assert all(licence and why for rows in listed.values() for _, licence, why in rows.values())


def test_every_range_has_two_ends() -> None:
    for group, requirements in dependencies.declared().items():
        for requirement in requirements:
            ends = dependencies.split(requirement)[1].partition(";")[0]
            pinned = re.fullmatch(r"==[\d.]+", ends.strip())
            assert pinned or re.fullmatch(r">=[\d.]+,<[\d.]+", ends.strip()), (group, requirement)


def test_licences_are_those_that_packages_declare() -> None:
    compared = 0
    for rows in _listed().values():
        for name, (_, licence, _) in rows.items():
            found = dependencies.licence(name)
            if found is not None and "and those of what it bundles" not in licence:
                # Packages spell it their own way: "Apache 2.0", "Apache-2.0".
                assert licence.partition(" (")[0] == found.replace("Apache 2.0", "Apache-2.0"), name
                compared += 1
    assert compared >= 3


def test_what_the_run_time_set_brings() -> None:
    """docs/dependencies.md says that it brings nothing further."""
    named = {re.sub(r"[-_.]+", "-", n).lower() for n in _listed()["run-time"]}
    for name in named - {"tomli"}:
        for requirement in importlib.metadata.requires(name) or ():
            if "extra ==" in requirement:
                continue
            brought = re.sub(r"[-_.]+", "-", dependencies.split(requirement)[0]).lower()
            old = re.search(r"python_version\s*[<=]", requirement)
            assert brought in {*named, "pyyaml-ft", "colorama"} or old, (name, requirement)


LOCK = "".join(
    f"{name} \\\n    --hash=sha256:{digit * 64}\n"
    for name, digit in (("click==8.1.0", "0"), ("libcst==1.9.0", "1"))
)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"dependencies": [{"name": "click", "version": "8.1.0", "vulns": []},
                                         {"name": "libcst", "version": "1.9.0", "vulns": []}]}, 0),
        ({"dependencies": [{"name": "click", "version": "8.1.0", "vulns": [{"id": "X-1"}]},
                           {"name": "libcst", "version": "1.9.0", "vulns": []}]}, 1),
        ({"dependencies": [{"name": "click", "skip_reason": "not found"},
                           {"name": "libcst", "version": "1.9.0", "vulns": []}]}, 2),
        ({"dependencies": []}, 2),
        (None, 2),
    ],
)  # fmt: skip
def test_an_audit_that_saw_nothing_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Any, code: int
) -> None:
    out = "" if answer is None else json.dumps(answer)
    done = subprocess.CompletedProcess([], 0, out, "no network\n")
    monkeypatch.setattr(dependencies, "_tool", lambda *words: done)
    (tmp_path / "lock.txt").write_text(LOCK)
    assert dependencies.main(["audit", str(tmp_path / "lock.txt")]) == code


def test_a_bill_of_materials_lists_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text(LOCK)
    for components, code in (([{}, {}], 0), ([{}], 2)):
        done = subprocess.CompletedProcess([], 0, json.dumps({"components": components}), "")
        monkeypatch.setattr(dependencies, "_tool", lambda *words, done=done: done)
        assert dependencies.main(["sbom", str(lock)]) == code
    lock.write_text("# nothing\n")
    assert dependencies.main(["sbom", str(lock)]) == 2
    assert "pins nothing" in capsys.readouterr().err


def test_a_real_bill_of_materials(tmp_path: Path) -> None:
    pytest.importorskip("cyclonedx_py")
    (tmp_path / "lock.txt").write_text(LOCK)
    found = json.loads(dependencies.sbom(tmp_path / "lock.txt"))
    assert found["bomFormat"] == "CycloneDX"
    assert {c["purl"] for c in found["components"]} == {
        "pkg:pypi/click@8.1.0",
        "pkg:pypi/libcst@1.9.0",
    }
