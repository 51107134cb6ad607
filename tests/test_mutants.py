"""The list of mutants fits the project, and the tool that runs it tells what notices a fault from what does not."""

import subprocess

import pytest

from tools.mutate import INVALID, KILLED, ROOT, SURVIVED, TIMED_OUT, Mutant, read_mutants, run_mutants


def test_every_mutant_can_be_put_into_its_file():
    problems = {mutant.name: mutant.problem(ROOT) for mutant in read_mutants()}
    assert {name: problem for name, problem in problems.items() if problem} == {}


def test_names_are_unique():
    names = [mutant.name for mutant in read_mutants()]
    assert len(names) == len(set(names))


@pytest.fixture
def project(tmp_path):
    """A package, one of its parts elsewhere as this project's tasks are, and its tests."""
    files = {
        "pyproject.toml": '[tool.setuptools.package-dir]\nsums = "sums"\n"sums.parts" = "parts"\n',
        "sums/__init__.py": "def add(a, b):\n    return a + b\n",
        "parts/__init__.py": "def double(a):\n    return 2 * a\n",
        "tests/test_sums.py": "from sums import add\n\n\ndef test_add():\n    assert add(1, 2) == 3\n",
        "tests/test_parts.py": "from sums.parts import double\n\n\ndef test_one():\n    assert double(1) == 2\n",
        "tests/test_red.py": "def test_red():\n    assert False\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    return tmp_path


def test_results_of_mutants(project):
    sums, parts = ("tests/test_sums.py",), ("tests/test_parts.py::test_one",)
    mutants = [
        Mutant("minus", "sums/__init__.py", "a + b", "a - b", sums, ""),
        Mutant("endless", "sums/__init__.py", "return a", "__import__('time').sleep(99)\n    return a", sums, ""),
        Mutant("equal", "sums/__init__.py", "a + b", "b + a", (*sums, *parts), ""),
        Mutant("elsewhere", "parts/__init__.py", "2 *", "3 *", parts, ""),
        Mutant("gone", "sums/__init__.py", "a * b", "a", sums, ""),
        Mutant("no-test", "sums/__init__.py", "a + b", "a", ("tests/test_sums.py::test_subtract",), ""),
        Mutant("red", "sums/__init__.py", "a + b", "a", ("tests/test_red.py",), ""),
    ]
    results = list(run_mutants(mutants, project, seconds=8))
    assert [(result.mutant.name, result.status) for result in results] == [
        ("minus", KILLED),
        ("endless", TIMED_OUT),
        ("equal", SURVIVED),
        ("elsewhere", KILLED),
        ("gone", INVALID),
        ("no-test", INVALID),
        ("red", INVALID),
    ]
    assert [result.detail for result in results if result.status in (KILLED, INVALID)] == [
        "tests/test_sums.py::test_add",
        "tests/test_parts.py::test_one",
        "sums/__init__.py: expected the old text once, it occurs 0 times",
        "tests/test_sums.py::test_subtract: there is no such test",
        "tests/test_red.py::test_red fails without the mutant",
    ]
    assert (project / "sums/__init__.py").read_text() == "def add(a, b):\n    return a + b\n"
