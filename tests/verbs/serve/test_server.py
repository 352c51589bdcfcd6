"""The server as its users start it: a process, a browser, hostile connections, and its end."""

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest

from tests.verbs.serve.conftest import CHROMIUM, picture

pytestmark = pytest.mark.slow
DELIVERED = """async (name) => {
    const data = new DataTransfer();
    data.items.add(new File([await (await fetch(`examples/${name}`)).blob()], name, {type: "image/jpeg"}));
    document.dispatchEvent(new EVENT);
}"""


@pytest.fixture(scope="module")
def server(project):
    """A server in a process of its own; its address and the process."""
    root, run = project
    words = [sys.executable, "-m", "lesion_exp", "serve", f"run={run.run_id}", "port=0"]
    process = subprocess.Popen(words, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith("Ctrl-C"):
                break
        found = re.search(r"page: http://127\.0\.0\.1:(\d+)/", "".join(said))
        assert found, "".join(said)
        yield int(found[1]), process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    if not Path(CHROMIUM).exists():
        pytest.skip(f"no browser at {CHROMIUM}; LESION_EXP_CHROMIUM names another")
    with playwright.sync_playwright() as started:
        made = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


def ask(port, raw):
    """The status line of the answer to raw bytes."""
    with closing(socket.create_connection(("127.0.0.1", port), timeout=20)) as connection:
        connection.sendall(raw)
        return connection.makefile("rb").readline()


def test_a_person_gets_a_prediction_with_its_evidence(server, browser, tmp_path):
    port, _ = server
    (tmp_path / "=1+1.png").write_bytes(picture(size=(300, 200)))
    (tmp_path / "broken.png").write_bytes(b"no image")
    page = browser.new_page(color_scheme="dark")
    failures, asked = [], []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"http://127.0.0.1:{port}/")
    page.locator("#card-body details").first.wait_for()
    assert "Research use only" in page.locator(".notice").inner_text()
    page.keyboard.press("Tab")
    assert page.locator(".skip").evaluate("link => link === document.activeElement")
    page.locator("#examples button").first.press("Enter")
    page.locator(".stack .heat").wait_for()
    assert "confidence" in page.locator("#status").inner_text()
    assert page.locator(".bars li").count() == 3
    page.locator("#strength").press("Home")
    assert page.locator(".heat").evaluate("image => image.style.opacity") == "0"
    page.set_input_files("#files", [str(path) for path in sorted(tmp_path.iterdir())])
    page.locator("#status", has_text="1 of 2 images predicted, 1 without a prediction.").wait_for()
    assert page.locator("#rows tr").count() == 3
    with page.expect_download() as download:
        page.locator("#csv").click()
    rows = Path(download.value.path()).read_text().splitlines()
    assert (
        rows[0] == "image,prediction,p_bkl,p_mel,p_nv,calibration,confidence,malignant_probability,conformal_set,error"
    )
    assert rows[2].startswith("'=1+1.png,")
    page.locator("#clear").click()
    for deliver in (
        "ClipboardEvent('paste', {clipboardData: data})",
        "DragEvent('drop', {dataTransfer: data})",
    ):
        page.evaluate(DELIVERED.replace("EVENT", deliver), "generated-nv.jpg")
        page.locator("#result h2", has_text="generated-nv.jpg").wait_for()
        page.locator(".stack .heat").wait_for()
        page.locator("#status", has_text="generated-nv.jpg").wait_for()
        page.locator("#clear").evaluate("button => button.click()")
    assert not page.locator("#batch").is_visible()
    page.goto(f"http://127.0.0.1:{port}/docs")
    page.locator("code", has_text="/predict").first.wait_for()
    assert not failures
    assert all(url.startswith((f"http://127.0.0.1:{port}/", "blob:", "data:")) for url in asked)


def test_the_page_fits_a_phone(server, browser):
    port, _ = server
    page = browser.new_page(viewport={"width": 360, "height": 740})
    page.goto(f"http://127.0.0.1:{port}/")
    page.locator("#examples button").first.click()
    page.locator(".stack .heat").wait_for()
    for summary in page.locator("summary").all()[1:]:
        summary.click()
    for place in (".bars .label", ".chips li", ".limits li", "#card tbody th", ".lead"):
        page.locator(place).first.evaluate("element => { element.textContent = 'x'.repeat(80); }")
    assert page.locator("html").evaluate("page => page.scrollWidth") <= 360


def test_the_malignant_share_has_a_column_where_it_is_a_sum(server, browser):
    port, _ = server
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{port}/")
    sums = "async (kinds) => (await import('/page/batch.js')).sumsMalignant(kinds.map((malignant) => ({malignant})))"
    assert page.evaluate(sums, [False, True, False])
    assert not any(page.evaluate(sums, kinds) for kinds in ([False, True], [True] * 3, [True, False, None]))


def test_hostile_requests_are_no_failure(server):
    port, _ = server
    for size in (17_000, 40_000):
        answer = ask(port, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * size + b"\r\n\r\n")
        assert answer.split()[1] in {b"400", b"431"}
    assert b" 400 " in ask(port, b"\x16\x03\x01" + bytes(50) + b"\r\n\r\n")
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=y\r\n"
    assert b" 413 " in ask(port, head + b"Content-Length: 99999999999\r\n\r\n--y")
    assert b" 400 " in ask(port, head + b"Content-Length: -1\r\n\r\n")


def test_a_refused_body_is_read_on_so_that_its_client_gets_the_answer(server):
    port, _ = server
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    body = b"--y\r\ncontent-disposition: form-data; name=file; filename=a\r\n\r\n" + bytes(40 * 2**20)
    connection.request("POST", "/predict", body, {"Content-Type": "multipart/form-data; boundary=y"})
    answer = connection.getresponse()
    assert answer.status == 413
    assert "MiB" in json.loads(answer.read())["error"]


def test_sigterm_ends_it_in_order(server):
    port, process = server
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=20) as answer:
        assert json.load(answer)["status"] == "ok"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    assert process.stdout.read() == ""
    assert "the server has stopped" in process.stderr.read()
