"""Configuration files: where they are looked for, and what they may say."""

from __future__ import annotations

from pathlib import Path

import pytest

from porter.config import ConfigProblem, Settings, load, read


def test_built_in_settings(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    assert load([tmp_path]) == Settings()


def test_all_keys(tmp_path: Path) -> None:
    source = tmp_path / "pyproject.toml"
    source.write_text(
        '[tool.porter]\ntarget = "npu"\nmin-torch = "2.7"\nselect = ["POR1"]\n'
        'ignore = ["POR105"]\nexclude = ["docs/"]\nunsafe = true\n'
        '[tool.porter.per-file-ignores]\n"tests/*" = ["POR2"]\n'
    )
    assert load([tmp_path]) == Settings(
        target="npu",
        min_torch="2.7",
        select=("POR1",),
        ignore=("POR105",),
        exclude=("docs/",),
        unsafe=True,
        per_file_ignores=(("tests/*", ("POR2",)),),
        source=source,
    )


def test_the_closest_file_counts_and_porter_toml_comes_first(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.porter]\ntarget = "npu"\n')
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "a" / "pyproject.toml").write_text("[tool.other]\nx = 1\n")
    (inner / "x.py").write_text("")
    assert load([inner / "x.py"]).target == "npu", "a file without our table does not count"
    (tmp_path / "a" / "porter.toml").write_text("unsafe = true\n")
    assert load([inner]) == Settings(unsafe=True, source=tmp_path / "a" / "porter.toml")


def test_the_search_ends_at_the_top_of_the_repository(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.porter]\ntarget = "npu"\n')
    (tmp_path / "repo" / ".git").mkdir(parents=True)
    assert load([tmp_path / "repo"]).source is None


def test_paths_of_two_projects_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "porter.toml").write_text("")
    with pytest.raises(ConfigProblem, match="different configurations"):
        load([tmp_path / "a", tmp_path / "b"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('min_torch = "2.9"', "unknown key 'min_torch'; did you mean 'min-torch'?"),
        ('colour = "red"', "unknown key 'colour' (known: exclude, "),
        ("unsafe = 'yes'", "unsafe must be true or false, not text"),
        ("unsafe = 1", "unsafe must be true or false, not a number"),
        ("target = 'npo'", "target cannot be 'npo'; did you mean 'npu'?"),
        ("target = ['npu']", "not a list"),
        ("min-torch = 2.10", "write it in quotes"),
        ("min-torch = 'new'", "min-torch cannot be 'new'"),
        ("select = 'POR1'", "select must be a list of text, not text"),
        ("ignore = ['POR1', 2]", "ignore must be a list of text, but holds a number"),
        ("per-file-ignores = ['a']", "per-file-ignores must be a table"),
        ("per-file-ignores = {a = 'POR1'}", "per-file-ignores of a pattern must be a list"),
        ("select = [", "not valid TOML"),
    ],
)
def test_mistakes_name_file_and_key(tmp_path: Path, text: str, said: str) -> None:
    source = tmp_path / "porter.toml"
    source.write_text(text + "\n")
    with pytest.raises(ConfigProblem) as caught:
        read(source)
    assert said in caught.value.message
    assert "porter.toml: " in caught.value.message
    assert "\n" not in caught.value.message


def test_a_broken_pyproject_is_named(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.porter\n")
    with pytest.raises(ConfigProblem, match=r"pyproject\.toml: not valid TOML"):
        load([tmp_path])
