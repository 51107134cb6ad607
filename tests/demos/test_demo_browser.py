"""The page in a browser: every task, both themes, desktop and phone, by keyboard alone, and a model taught in it."""

import shutil
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from servers import served

import mmtune
from mmtune.data.convert import convert
from mmtune.data.dataset import Dataset
from mmtune.data.read import split_off
from mmtune.demos import HOME
from mmtune.demos.prompts import TASKS
from mmtune.recipe import read_recipe

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CONTRAST = "\n".join(Path(__file__).with_name("contrast.js").read_text().splitlines()[1:])
DESKTOP, PHONE = (1280, 900), (390, 844)
SECOND = 1000

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian: apt install chromium)"),
    pytest.mark.usefixtures("quick_compiles"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with served(tmp_path_factory.mktemp("runs")) as server:
        yield server


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra `test`)")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """A visit of the page, and what it asked other servers for, said in alerts or complained about."""

    def __init__(self, browser, server, size=DESKTOP, scheme="light"):
        width, height = size
        self.context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.page.set_default_timeout(120 * SECOND)
        self.elsewhere, self.alerts, self.faults = [], [], []
        self.page.on("request", lambda request: self._note(request.url, server.url))
        self.page.on("dialog", lambda dialog: (self.alerts.append(dialog.message), dialog.dismiss()))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.goto(server.url, wait_until="commit")
        self.ask_button.wait_for()

    def _note(self, url, ours):
        if not url.startswith((ours, "data:", "blob:")):
            self.elsewhere.append(url)

    @property
    def ask_button(self):
        return self.page.get_by_role("button", name="Ask", exact=True)

    def choose(self, task):
        self.page.get_by_label(TASKS[task], exact=True).first.check()

    def wait_for_prompt(self, condition, value=None):
        """Waits until the prompt, `text`, fulfils a condition of JavaScript on it and `value`."""
        self.page.wait_for_function(
            f"value => {{ const text = document.querySelector('#prompt textarea, #prompt input').value; "
            f"return {condition} }}",
            arg=value,
        )

    def ask(self, press=None):
        """Asks, and returns when the answer to this very question has begun to come."""
        self.page.evaluate(
            """() => { window.begun = false; new MutationObserver((_, watching) => {
            if (document.querySelector('#message .working')) { window.begun = true; watching.disconnect() } })
            .observe(document.body, {childList: true, subtree: true}) }"""
        )
        (press or self.ask_button.click)()
        self.page.wait_for_function("() => window.begun")

    def answered(self, panel=0):
        """Waits for a whole answer and returns its text."""
        self.page.wait_for_function(
            """panel => { const pace = document.querySelector(`#heading-${panel} .pace`);
            return pace && !pace.innerText.endsWith('…') && !document.querySelector('#message .working') }""",
            arg=panel,
        )
        return self.page.locator(f"#written-{panel} .written").inner_text()

    def assert_readable(self):
        assert self.page.evaluate(f"({CONTRAST})()") == []
        width = self.page.viewport_size["width"]
        assert self.page.evaluate("document.documentElement.scrollWidth") <= width
        assert self.faults == []

    def close(self):
        self.context.close()


@pytest.fixture
def visit(browser, server):
    visits = []

    def begin(**settings):
        visits.append(Visit(browser, server, **settings))
        return visits[-1]

    yield begin
    for one in visits:
        one.close()


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop-light", "phone-dark"])
def test_every_task_is_asked_and_answered(visit, size, scheme):
    begun = visit(size=size, scheme=scheme)
    begun.assert_readable()
    starts = {"detection": "detect ", "segmentation": "segment ", "captioning": "caption en", "vqa": "answer en "}
    for task in TASKS:
        begun.choose(task)
        wanted = starts.get(task, "ocr" if task == "ocr" else "what is the opposite")
        begun.wait_for_prompt("text.startsWith(value)", wanted)
        begun.ask()
        text = begun.answered()
        assert text.strip()
        sees = task != "instruct"
        begun.page.locator("#drawn-0 img").wait_for(state="visible" if sees else "hidden")
        assert begun.page.locator("#copied textarea").input_value().startswith("[")
        begun.assert_readable()
    assert begun.elsewhere == []


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "dark"), (PHONE, "light")], ids=["desktop-dark", "phone-light"])
def test_both_tabs_are_readable_in_the_other_themes(visit, size, scheme):
    begun = visit(size=size, scheme=scheme)
    begun.ask()
    begun.answered()
    begun.assert_readable()
    begun.page.get_by_role("tab", name="Fine-tune").click()
    begun.page.locator("#check").wait_for()
    begun.assert_readable()


def test_the_threshold_draws_anew_without_asking(visit, server):
    begun = visit()
    begun.ask()
    begun.answered()
    asked = sum(server.batcher.sizes)
    before = begun.page.locator("#drawn-0 img").get_attribute("src")
    slider = begun.page.locator("#threshold input[type=number]")
    slider.fill("1")
    slider.press("Tab")
    begun.page.wait_for_function("before => document.querySelector('#drawn-0 img').src !== before", arg=before)
    begun.page.locator("#message .note").wait_for()
    begun.page.get_by_label("COCO", exact=True).check()
    begun.page.wait_for_function("() => document.querySelector('#copied textarea').value.includes('annotations')")
    assert sum(server.batcher.sizes) == asked


def test_the_keyboard_is_enough(visit):
    """From the top: Tab to what is wanted, space to choose, Enter to ask."""
    begun = visit()
    keyboard = begun.page.keyboard

    def tab_to(selector, most=60):
        for _ in range(most):
            keyboard.press("Tab")
            if begun.page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(f"{selector} is not reached by Tab")

    tab_to("input[type=radio][value=captioning]")
    keyboard.press("Space")
    begun.wait_for_prompt("text === 'caption en'")
    tab_to("#examples button[aria-label='Example 2']")
    keyboard.press("Enter")
    tab_to("#ask")
    assert begun.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    begun.ask(lambda: keyboard.press("Enter"))
    assert begun.answered().strip()


def test_scripts_in_prompts_and_class_names_do_not_run(visit):
    begun = visit()
    nasty = "<img src=x onerror=alert(1)>${alert(2)}{{alert(3)}}<script>alert(4)</script>"
    begun.page.locator("#classes input").fill(nasty)
    begun.page.locator("#classes input").press("Enter")
    begun.wait_for_prompt("text.includes('onerror')")
    begun.ask()
    begun.answered()
    begun.page.locator("#prompt textarea, #prompt input").fill("detect " + "<b>" * 3 + nasty)
    begun.ask()
    begun.answered()
    assert begun.alerts == []
    assert begun.page.evaluate("document.querySelectorAll('[onerror]').length") == 0


def test_what_goes_wrong_is_a_sentence_on_the_page(visit, tmp_path):
    begun = visit()
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    begun.page.locator("#picture button[aria-label='Clear'], #picture button[aria-label='Remove Image']").first.click()
    begun.ask_button.click()
    begun.page.locator("#message .error").get_by_text("give a picture").wait_for()
    begun.page.set_input_files("#picture input[type=file]", tmp_path / "broken.png")
    begun.page.wait_for_timeout(SECOND)
    begun.ask_button.click()
    begun.page.locator("#message .error").get_by_text("no picture that can be read").wait_for()


def photos(folder):
    """A zip of 40 scenes with one shape each, called by its colour: red or blue."""
    scenes = mmtune.read("shapes:train?n=260&seed=5&labels=colour&max_objects=1", task="detection")
    chosen = [record for record in scenes if record.boxes and record.boxes[0].label in ("red", "blue")][:40]
    convert(Dataset(tuple(chosen), ("red", "blue")), folder / "photos", "coco")
    with zipfile.ZipFile(folder / "photos.zip", "w") as archive:
        for file in (folder / "photos").rglob("*"):
            archive.write(file, file.relative_to(folder))
    return folder / "photos.zip"


def test_a_model_is_taught_from_an_uploaded_folder(visit, server, browser, tmp_path):
    """To a better AP on what was held back than the base has; the result stands beside it."""
    begun = visit()
    page = begun.page
    page.get_by_role("tab", name="Fine-tune").click()
    page.set_input_files("#files input[type=file]", photos(tmp_path))
    page.locator("#tune-message").get_by_text("was uploaded").wait_for()
    page.locator("#check").click()
    page.locator("#tune-message").get_by_text("40 of 40 examples").wait_for()
    page.locator("#overlays img").first.wait_for()
    page.locator("#start").click()
    page.locator("#tune-message").get_by_text("is being trained").wait_for()
    command = page.locator("#command textarea").input_value()
    assert command.startswith("mmtune train --task detection --data ")
    page.locator("#progress").get_by_text("done, step 60 of 60").wait_for(timeout=600 * SECOND)
    assert page.locator("#curves svg").count() >= 2
    begun.assert_readable()
    run = server.settings.runs / "detection"
    assert (run / "recipe.toml").is_file()
    assert str(server.settings.runs) not in page.content()
    data = mmtune.read(read_recipe(run / "recipe.toml", {}, []).data, task="detection")
    _, held_out = split_off(data, 0.2, 0)
    before = mmtune.evaluate("tiny", task="detection", data=held_out, verbose=False).metrics["AP"]
    after = mmtune.evaluate(str(run), task="detection", data=held_out, verbose=False).metrics["AP"]
    assert after > before + 0.1
    assert f"AP {after:.3f}" in page.locator("#progress").inner_text()
    page.locator("#open").click()
    page.locator("#models").get_by_text("detection", exact=True).wait_for()
    begun.ask()
    begun.answered(1)
    assert begun.elsewhere == []
    # A page that is started with the run begins with the classes that it was taught.
    with served(tmp_path / "again", models=("tiny", str(run))) as again:
        later = Visit(browser, again)
        later.wait_for_prompt("text === value", "detect " + " ; ".join(data.classes))
        later.ask()
        later.answered(1)
        later.context.close()


def test_who_closes_the_browser_finds_run_data_and_model_again(browser, tmp_path):
    """Two visitors: one starts a run and closes the page, the other is told to wait, and sees nothing of it."""
    data = photos(tmp_path)
    with served(tmp_path / "runs") as server:
        ann, bob = Visit(browser, server), Visit(browser, server)

        def tune(page):
            page.get_by_role("tab", name="Fine-tune").click()

        for one in (ann, bob):
            tune(one.page)
            one.page.set_input_files("#files input[type=file]", data)
            one.page.locator("#tune-message").get_by_text("photos was uploaded").wait_for()
        ann.page.locator("#steps input").fill("5000")
        ann.page.locator("#steps input").press("Tab")
        ann.page.locator("#start").click()
        ann.page.locator("#tune-message").get_by_text("is being trained").wait_for()
        bob.page.locator("#start").click()
        bob.page.locator("#tune-message").get_by_text("busy: another visitor's run").wait_for()
        ann.page.close()
        again = ann.context.new_page()
        again.set_default_timeout(120 * SECOND)
        again.goto(server.url, wait_until="commit")
        tune(again)
        again.locator("#progress").get_by_text("detection").wait_for()
        assert again.locator("#run input").input_value() == "detection"
        assert again.locator("#data input").input_value() == "photos"
        again.locator("#stop-run:enabled").click()
        again.locator("#tune-message").get_by_text("was stopped").wait_for()
        bob.page.locator("#steps input").fill("2")
        bob.page.locator("#steps input").press("Tab")
        bob.page.locator("#start").click()
        bob.page.locator("#tune-message").get_by_text("detection-2 is being trained").wait_for()
        bob.page.locator("#progress").get_by_text("done, step 2 of 2").wait_for(timeout=600 * SECOND)
        bob.page.locator("#open").click()
        bob.page.locator("#models").get_by_text("detection-2", exact=True).wait_for()
        for page, sees in ((bob.page, True), (again, False)):
            page.reload(wait_until="commit")
            tune(page)
            page.locator("#progress").get_by_text("detection-2" if sees else "stopped, step").wait_for()
            assert page.locator("#models").get_by_text("detection-2", exact=True).count() == sees
            assert str(tmp_path) not in page.content()
        for one in (ann, bob):
            assert one.faults == []
            one.close()


@pytest.fixture
def stranger():
    """A page of another site on this machine; yields its address."""
    page = b"<!doctype html><title>stranger</title>"

    class Site(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        yield f"http://localhost:{site.server_port}/"
        site.shutdown()


SEND = """async address => {
    const form = new FormData();
    form.append("files", new Blob(["stolen"]), "planted.jsonl");
    try { return (await fetch(address + "gradio_api/upload", {method: "POST", body: form, mode: "no-cors"})).status }
    catch (error) { return String(error) }
}"""


def planted():
    return list(HOME.rglob("planted.jsonl"))


def test_another_site_can_upload_nothing(browser, server, stranger):
    page = browser.new_context().new_page()
    page.goto(stranger)
    page.evaluate(SEND, server.url)
    assert not planted()
    page.goto(server.url, wait_until="commit")
    assert page.evaluate(SEND, server.url) == 200
    until = time.monotonic() + 30
    while not planted() and time.monotonic() < until:  # the framework puts it there after it has answered
        time.sleep(0.1)
    assert len(planted()) == 1
    planted()[0].unlink()


def test_a_name_that_was_rebound_to_this_machine_is_not_answered(browser, server):
    """The browser of a visitor takes evil.example for 127.0.0.1, as after DNS rebinding."""
    rules = "--host-resolver-rules=MAP evil.example 127.0.0.1"
    rebound = server.url.replace("127.0.0.1", "evil.example")
    assert rebound != server.url
    another = browser.browser_type.launch(executable_path=CHROMIUM, args=["--no-sandbox", rules])
    try:
        page = another.new_page()
        answer = page.goto(rebound)
        assert answer is not None
        assert answer.status == 403
        assert "does not answer to that host name" in page.content()
        assert page.evaluate(SEND, rebound) == 403
        assert not planted()
        assert page.goto(server.url, wait_until="commit").status == 200
    finally:
        another.close()


def test_no_site_shows_the_page_in_a_frame(browser, server, stranger):
    page = browser.new_context().new_page()
    page.goto(stranger)
    page.evaluate(
        """address => new Promise(done => { const frame = document.createElement("iframe");
        frame.onload = done; frame.src = address; document.body.append(frame) })""",
        server.url,
    )
    frame = page.frames[1]
    for _ in range(100):  # its address comes a moment after it has loaded
        if frame.url:
            break
        page.wait_for_timeout(100)
    assert frame.url.startswith("chrome-error://")
