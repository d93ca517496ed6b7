"""The data files: complete, well-formed, and made by the tool."""

from __future__ import annotations

import gzip
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from shared import comparison
from shared.comparison import gates, roles
from shared.comparison.letters import confusables
from shared.comparison.reading import normalise
from shared.languages import LANGUAGES
from tools import comparison_data

FOLDER = Path(comparison.__file__).parent


def test_the_list_of_confusables_is_whole() -> None:
    header, said = (FOLDER / "confusables.txt").read_text(encoding="ascii").splitlines()[:2]
    assert header.startswith("# Unicode 18.0.0, security/confusables.txt")
    assert int(said.split()[1]) == len(confusables()) == 6712
    assert confusables()["\u0430"] == "a"
    assert confusables()["m"] == "rn"
    assert all(len(char) == 1 and prototype for char, prototype in confusables().items())


def test_the_tool_keeps_what_unicode_lists() -> None:
    source = "\ufeff# Version: 1.0.0\n0430 ;\t0061 ;\tMA\t# a\n\n006D ;\t0072 006E ;\tMA\t# m\n# total: 2\n"
    assert comparison_data.confusables(source.encode()).splitlines()[2:] == ["006D 0072 006E", "0430 0061"]
    with pytest.raises(ValueError, match="incomplete"):
        comparison_data.confusables(source.replace("total: 2", "total: 3").encode())


def test_dictionaries() -> None:
    found = gates.dictionaries()
    assert tuple(found) == tuple(comparison_data.SOURCES)
    for words in found.values():
        assert 7_500 < len(words) <= comparison_data.MOST
        assert all(len(word) >= comparison_data.SHORTEST and word.isalpha() for word in words)
        assert all(normalise(word).text == word for word in words)
    assert {"apple", "target", "shell"} <= gates.dictionary("en-GB")
    assert not {"nike", "adidas", "rolex", "lego", "samsung", "chanel"} & gates.dictionary("en")
    assert "schuhe" in gates.dictionary("de")
    assert "schuhe" not in gates.dictionary("fr")
    assert "schuhe" in gates.dictionary(None)
    assert gates.dictionary("xx") == gates.dictionary(None)


def test_the_tool_takes_the_most_frequent_words(tmp_path: Path) -> None:
    for name in comparison_data.SOURCES.values():
        text = '{"\u00dcber": 2, "the": 9, "don\'t": 3}' if name.endswith(".gz") else "Schuhe\n\u00fcber\nund\n"
        content = text.encode()
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    lines = gzip.decompress(comparison_data.words(tmp_path)).decode().split("\n")
    assert lines[:2] == ["en uber", "de schuhe uber"]


def test_every_language_has_all_kinds_of_cues() -> None:
    data = roles.data()
    assert set(roles.languages()) >= {*LANGUAGES, "en", "de", "fr", "es", "it"}
    for language in roles.languages():
        assert set(data[language]) == set(roles.KINDS), language
        for kind in roles.KINDS:
            words = [roles.words(text) for text in data[language][kind]]
            assert all(words), (language, kind)
            assert len(set(words)) == len(words), (language, kind, "twice")
        roles.cues(language)
    assert all(isinstance(unit, str) and roles.words(unit) for unit in data["units"])
    roles.cues(None)


def test_the_wheel_has_all_data() -> None:
    project = tomllib.loads((FOLDER.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    setup = project["tool"]["setuptools"]
    data = [path.name for path in FOLDER.iterdir() if path.is_file() and path.suffix != ".py"]
    assert len(data) == 4
    for name in data:
        assert any(fnmatch(name, pattern) for pattern in setup["package-data"]["*"]), name


def test_the_licences_of_the_data_are_named() -> None:
    notice = (FOLDER / "NOTICE.md").read_text(encoding="utf-8")
    assert "UNICODE LICENSE V3" in notice
    for name in ("confusables.txt", "words.txt.gz"):
        assert name in notice
