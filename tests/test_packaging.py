"""The list of packages is the folders there are; the wheel, installed elsewhere, works."""

import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FIVE_LINES = """
import mmtune
model = mmtune.load("tiny")
data = mmtune.read("shapes:train?n=8&max_objects=1", task="detection")
lora = mmtune.LoRA(rank=2)
run = mmtune.train(model, task="detection", data=data, val=data, lora=lora, out="run", steps=2, batch_size=2)
print("AP50", run.metrics["AP50"])
run.model.predict(data[0].picture, task="detection").draw().save("scene.png")
assert mmtune.evaluate(model, task="detection", data="shapes:val?n=2").metrics["AP"] >= -1
assert len(model.generate([data[0].picture], ["detect circle"], max_tokens=8)) == 1
assert type(model.backbone).__name__ == "PaliGemmaBackbone"
again = mmtune.load("run")
assert again.setup.classes == data.classes
"""


def settings():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_packages_are_the_folders():
    listed = set(settings()["tool"]["setuptools"]["packages"])
    homes = {"mmtune": "mmtune", "tasks": "mmtune.tasks", "demos": "mmtune.demos"}
    found = set()
    for top, package in homes.items():
        for init in (ROOT / top).rglob("__init__.py"):
            parts = init.parent.relative_to(ROOT / top).parts
            found.add(".".join((package, *parts)))
    assert listed == found


def test_no_file_names_this_workplace():
    """The project speaks of itself alone."""
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    words = ["/" + "work/", "pypi" + ".org", "files." + "pythonhosted"]
    for name in files:
        if name.endswith((".py", ".md", ".toml", ".txt")) or name == ".ci/run":
            text = (ROOT / name).read_text()
            assert not [word for word in words if word in text], name


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Python of an environment that holds the built wheel, and the dependencies of this one."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    site = next((folder / "env").rglob("site-packages"))
    # The dependencies are borrowed, without this checkout's own editable install.
    ours = next(path for path in map(Path, sys.path) if path.name == "site-packages")
    for entry in ours.iterdir():
        if "mmtune" not in entry.name and entry.name != "__pycache__" and not (site / entry.name).exists():
            (site / entry.name).symlink_to(entry)
    import zipfile

    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return python


def test_the_wheel_works_elsewhere(installed, tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def run(*words):
        done = subprocess.run(
            [str(installed), *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    where = run("-c", "import mmtune, mmtune.tasks, mmtune.demos; print(mmtune.__file__, mmtune.tasks.__file__)")
    assert str(ROOT) not in where
    assert "quickstart" in run("-m", "mmtune", "--help")
    assert "AP50" in run("-c", FIVE_LINES)
    assert (tmp_path / "scene.png").is_file()
