"""The page in a browser: our script runs under its policy, others do not; colours have the contrast of WCAG AA."""

import re
import shutil
import subprocess

import pytest
from report_cases import answered

from mmtune.reporting import write_report
from mmtune.reports.page import asset

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_the_script_pages_the_cards(tmp_path):
    """Of 30 examples 24 are shown, with a button for the rest; a script that is smuggled in is not run."""
    task, pairs = answered("ocr", 30)
    metric = task.metric()
    for pair in pairs:
        metric.update(*pair)
    file = tmp_path / "report.html"
    write_report(file, task, pairs, metric.compute(), settings={"model": "tiny"})
    smuggled = "<script>document.title='smuggled'</script></main>"
    file.write_text(file.read_text(encoding="utf-8").replace("</main>", smuggled), encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [*command, "--dump-dom", f"file://{file}"], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout.count('<article class="card"') == 24, done.stderr[-1000:]
    assert "24 of 30 examples" in done.stdout
    assert ">Show 6 more</button>" in done.stdout
    assert "<title>ocr: tiny</title>" in done.stdout


def themes():
    """Returns the colours of the light and of the dark theme by their names."""
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
        for block in re.findall(r":root \{(.*?)\}", asset("report.css"), re.S)
    )
    return {"light": light, "dark": dark}


def contrast(one, other):
    """WCAG 2's ratio of two colours."""

    def luminance(colour):
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def mixed(tint, ground, share):
    return "#" + "".join(
        f"{round(share * top + (1 - share) * int(ground[1 + 2 * place : 3 + 2 * place], 16)):02x}"
        for place, top in enumerate(tint)
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_pass_wcag_aa(theme):
    colours = themes()[theme]
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    for ground in ("paper", "ground"):
        for ink in ("ink", "quiet", "accent"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
    for mark in ("added", "taken"):
        assert contrast(colours["ink"], colours[mark]) >= 4.5, mark
    tints = re.findall(r"--tint: (\d+) (\d+) (\d+)", asset("report.css"))
    tint = [int(part) for part in tints[theme == "dark"]]
    assert (
        contrast(colours["ink"], mixed(tint, colours["paper"], 0.45)) >= 4.5
    )  # the fullest cell of a confusion matrix
