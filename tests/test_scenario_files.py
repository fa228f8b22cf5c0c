"""Unreadable, truncated, binary, foreign and hostile files are one line, never a traceback."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from pretune.errors import InputError
from pretune.scenario import load_scenario
from scenario_samples import SMALL, file_refusal, small, write_json

SUFFIXES = (".yaml", ".yml", ".toml", ".json")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" \n\n",
        b"\xff\xfe\x00\x01" * 10,
        bytes(range(256)),
        b"\x00" * 100,
        b"\x89PNG\r\n\x1a\n",
        b"just some words",
        b"3",
        b"[1, 2",
        b'"text"',
        b"\xef\xbb\xbf",
        b"{" * 100_000,
        b"[" * 100_000,
        b"- " * 50_000,
        b'{"a":' * 50_000,
        b"a = [" * 20_000,
        b"a.b" * 30_000 + b" = 1",
        b"[[x]]\n" * 1000,
        b"9" * 10_000,
        b"pretune = 0x" + b"f" * 10_000,
        b"pretune: 0x" + b"f" * 10_000,
        b"%YAML 9.9\n---\na: 1",
        b"--- 1\n--- 2\n",
        b"!!python/object/apply:os.system [true]",
        b"!!binary 3",
        b"!!int foo",
        b"!!timestamp 2001-99-99",
        b"? [a, b]\n: 1",
        b"? {a: b}\n: 1",
        b"a: 2001-99-99",
        b"pretune: 1\npretune: 1\n",
        b'{"pretune": 1, "pretune": 1}',
        b"pretune = 1\npretune = 1\n",
        b"*nowhere",
        b"&a [*a]",
        b"<<: 3",
        b"a: b: c",
        b"\tx: 1",
        b"'unclosed",
    ],
)
def test_a_foreign_file_is_one_line(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"scenario{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_scenario(path)
    for line in caught.value.problems:
        assert "\n" not in line
        assert len(line) < 400
        line.encode()


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("s.yaml", "", "s.yaml: is empty"),
        ("s.yaml", "# nothing", "s.yaml: holds null, should hold a mapping with the key 'pretune'"),
        ("s.yaml", "a: 1\na: 2", 's.yaml: is not YAML: line 2, found duplicate key "a"'),
        ("s.yaml", "a: [1,\nb: 3", "s.yaml: is not YAML: line 2, "),
        ("s.yaml", "a: &x 1\nb: *x", "s.yaml: uses an alias to line 1, should spell the value out"),
        ("s.yaml", "a: !!python/name:os.system x", "s.yaml: is not YAML: line 1, could not determine a constructor"),
        ("s.json", '{"a": NaN}', "s.json: holds NaN, which is not a JSON number"),
        ("s.json", '{"a": -Infinity}', "s.json: holds -Infinity, which is not a JSON number"),
        ("s.json", '{"a": {"b": 1, "b": 2}}', "s.json: holds the key 'b' twice"),
        ("s.json", '{"a": 1', "s.json: is not JSON: line 1, Expecting"),
        ("s.json", "[1]", "s.json: holds [1], should hold a mapping with the key 'pretune'"),
        ("s.json", '{"a":' * 50 + "1" + "}" * 50, "s.json: is nested more than 32 levels deep"),
        ("s.toml", "a = 1\na = 2", "s.toml: is not TOML: Cannot overwrite a value"),
        ("s.toml", "a = ", "s.toml: is not TOML: "),
        ("s.toml", "a.b" * 40 + " = 1", "s.toml: has a key of more than 32 parts"),
        ("s.toml", "a = [\n" + "1.0, " * 90 + "]", "the scenario: holds {'a': [1.0, 1.0, 1.0, 1.0, ...]}"),
        ("s.txt", "pretune: 1", "s.txt: has the suffix '.txt', should have one of .yaml, .yml, .toml, .json"),
        ("s", "pretune: 1", "s: has the suffix '', should have one of .yaml, .yml, .toml, .json"),
    ],
)
def test_the_line_says_what_is_wrong(tmp_path: Path, name: str, text: str, line: str) -> None:
    (tmp_path / name).write_text(text)
    assert file_refusal(tmp_path / name).startswith(line)


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    assert file_refusal(tmp_path / "folder.yaml") == "folder.yaml: is not a file"
    assert file_refusal(tmp_path / "none.yaml") == "none.yaml: does not exist"
    assert file_refusal(tmp_path / "none.yaml" / "x.yaml") == "x.yaml: does not exist"
    assert file_refusal(tmp_path / ("x" * 300 + ".yaml")).startswith("x")
    assert file_refusal(Path("a\0b.yaml")).startswith("'a\\x00b.yaml': ")
    os.mkfifo(tmp_path / "pipe.yaml")
    assert file_refusal(tmp_path / "pipe.yaml") == "pipe.yaml: is not a file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = write_json(tmp_path / "s.json", SMALL)
    path.chmod(0)
    assert file_refusal(path) == "s.json: can't be read (Permission denied)"


def test_a_truncated_file_is_refused_at_every_length(tmp_path: Path) -> None:
    text = json.dumps(SMALL)
    path = tmp_path / "s.json"
    for length in range(0, len(text), 17):
        path.write_text(text[:length])
        assert file_refusal(path).startswith("s.json: is ")


def test_a_billion_laughs_are_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    laughs = "\n".join(f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]" for i in range(30))
    path.write_text("a0: &a0 [ha, ha]\n" + laughs)
    began = time.perf_counter()
    assert file_refusal(path).startswith("s.yaml: uses an alias to line 1")
    assert time.perf_counter() - began < 5


def test_an_enormous_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    with path.open("wb") as file:
        file.truncate(10**9)
    assert file_refusal(path) == "s.json: is larger than 64 MiB; put the devices into a fleet file"


def test_a_foreign_mapping_is_one_line(tmp_path: Path) -> None:
    path = write_json(tmp_path / "package.json", {"version": "1.0.0", "scripts": {"test": "x"}})
    assert file_refusal(path).startswith(
        "the scenario: holds {'scripts': {'test': 'x'}, 'version': '1.0.0'}, should hold"
    )


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(SMALL).encode())
    assert load_scenario(path) == load_scenario(write_json(tmp_path / "t.json", SMALL))


def test_a_text_path_will_do(tmp_path: Path) -> None:
    assert load_scenario(str(write_json(tmp_path / "s.json", small()))).name == "campus-digits"


def test_yaml_reads_numbers_and_words_as_yaml_1_2_does(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(json.dumps(small(task={})).replace("72000000.0", "7.2e7").replace('"campus-digits"', "yes"))
    scenario = load_scenario(path)
    assert scenario.workload.flops_per_sample == 7.2e7
    assert scenario.name == "yes"
