"""The documentation agrees with the program, and the files people start with hold what they promise."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pretune
from pretune.cli import main
from pretune.plans import Status, load_plan

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
COMMANDS = (
    "plan",
    "check",
    "run",
    "report",
    "compare",
    "admit",
    "calibrate",
    "profile",
    "pareto",
    "pilot",
    "server",
    "device",
    "enroll",
    "studio",
)


def text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def options_in(words: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", words))


@pytest.mark.parametrize("command", COMMANDS)
def test_the_reference_lists_the_options_of_the_help(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert main([command, "--help"]) == 0
    in_help = {option for option in options_in(capsys.readouterr().out) if option.startswith("--")}
    section = text("docs/cli.md").split(f"## pretune {command}\n")[1].split("\n## ")[0]
    in_docs = {option for option in options_in(section) if option.startswith("--")}
    assert in_docs == in_help - {"--help"}


def test_the_reference_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    for command in COMMANDS:
        assert command in listed
        assert f"pretune {command}" in text("docs/cli.md")


def test_the_names_of_the_python_examples_exist() -> None:
    for page in ("README.md", "docs/start.md"):
        used = set(re.findall(r"\bpretune\.(\w+)\(", text(page)))
        assert used >= {"load_scenario", "plan", "run"}
        assert used <= set(pretune.__all__), page


def readme_scenario() -> str:
    found = re.search(r"```yaml\n(.*?)```", text("README.md"), re.S)
    assert found is not None
    return found[1]


def test_the_first_scenario_of_the_readme_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its ten lines, and the commands under them (all but the browser)."""
    assert len(readme_scenario().splitlines()) <= 10
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(readme_scenario(), encoding="utf-8")
    commands = re.findall(r"^pretune (\S+ [^#\n]*?)\s*#", text("README.md"), re.M)
    assert [command.split()[0] for command in commands] == ["plan", "check", "run"]
    for command in commands:
        if command.startswith("run"):
            pytest.importorskip("torch")
        assert main(command.split()) == 0, capsys.readouterr().err
    plan = load_plan(tmp_path / "plan.json")
    assert plan.status is Status.OPTIMAL
    assert plan.pretrain is not None
    assert plan.finetune is not None
    assert plan.pretrain.rounds > 0
    assert plan.finetune.rounds > 0
    assert (tmp_path / "run" / "report.html").is_file()


@pytest.mark.parametrize(
    ("page", "old", "new"),
    [
        ("docs/errors.md", "energy_j: 1 J", "energy_j: -5"),
        ("docs/start.md", "energy_j: 1 J", "energy: 1 J"),
    ],
)
def test_the_messages_in_the_documentation_are_real(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], page: str, old: str, new: str
) -> None:
    scenario = tmp_path / "mine.yaml"
    scenario.write_text(readme_scenario().replace(old, new), encoding="utf-8")
    assert main(["plan", str(scenario)]) == 2
    shown = re.findall(r"^pretune: (?!interrupted).*$", text(page), re.M)
    assert shown == capsys.readouterr().err.splitlines()


def test_every_status_is_explained() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|.*\| [013] \|$", text("docs/plan.md"), re.M)) == {s.value for s in Status}


@pytest.mark.parametrize(
    "path", sorted(p.relative_to(ROOT).as_posix() for p in [*DOCS.glob("*.md"), *ROOT.glob("*.md")])
)
def test_links_between_pages_lead_somewhere(path: str) -> None:
    page = ROOT / path
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), f"{path}: {target}"


def test_every_page_is_in_the_navigation() -> None:
    listed = set(re.findall(r": (\w+\.md)$", text("mkdocs.yml"), re.M))
    assert listed == {page.name for page in DOCS.glob("*.md")}


def test_the_changelog_knows_this_version() -> None:
    assert f"## [{pretune.__version__}]" in text("CHANGELOG.md")


def test_files_that_a_make_target_needs_are_named_there() -> None:
    makefile = text("Makefile")
    for name in re.findall(r"(?:\.ci|examples)/[\w./]+", makefile):
        assert (ROOT / name).exists(), name


def test_everything_that_is_installed_for_the_tests_is_pinned() -> None:
    pins = dict(line.split("==") for line in text("constraints.txt").splitlines() if line and not line.startswith("#"))
    pyproject = text("pyproject.toml").split("[project.scripts]")[0]
    wanted = {re.split(r"[<>=]", item)[0].lower() for item in re.findall(r'"([\w.-]+>=[\w.]+)"', pyproject)}
    assert wanted - {"hatchling"} <= set(pins)
    assert all("+" not in version for version in pins.values())


def test_no_machine_or_registry_is_named() -> None:
    for path in ("Makefile", ".ci/run", "constraints.txt", ".github/workflows/ci.yml", "mkdocs.yml", "README.md"):
        assert not re.search(r"/work/|/root/|/opt/|/tmp/|index-url|find-links", text(path)), path


def test_the_picture_is_small() -> None:
    pictures = [*(DOCS / "images").glob("*")]
    assert pictures
    assert sum(picture.stat().st_size for picture in pictures) < 300_000
