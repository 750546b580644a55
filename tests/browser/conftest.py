"""A real browser: pages open in headless Chromium, and whatever it complains about or asks the network for is kept."""

import functools
import http.server
import shutil
import threading
from dataclasses import dataclass, field
from typing import Any

import pytest
from screens import DESKTOP

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking")


@dataclass
class Visit:
    """A page that was opened, with what the browser said while it was there.

    Attributes:
        page: Playwright's page.
        errors: messages of the console that are errors or warnings, and exceptions of scripts.
        outside: addresses asked for that are neither in the page itself nor on this machine.
    """

    page: Any
    errors: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def violations(self):
        """What axe finds against WCAG 2.2 A and AA and its own good practice: rule, help and the elements."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        return [(each["id"], each["help"], [node["html"][:200] for node in each["nodes"]]) for each in found]

    def overflow(self):
        """Pixels by which the page is wider than its window: 0 where nothing scrolls sideways."""
        return self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


@pytest.fixture(scope="session")
def chromium():
    """The browser of this machine; without it, or what drives it, the tests are skipped, and one line says so."""
    driver = pytest.importorskip("playwright.sync_api", reason="no page is opened, for playwright is not installed")
    pytest.importorskip("axe_playwright_python", reason="no page is opened, for axe-playwright-python is not installed")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no page is opened, for there is no Chromium here")
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium):
    """`visit(address, size=DESKTOP)` opens a page, waits until it is loaded and gives its `Visit`."""
    contexts = []

    def open_(address, size=DESKTOP):
        context = chromium.new_context(viewport={"width": size[0], "height": size[1]})
        contexts.append(context)
        seen = Visit(context.new_page())

        def console(message):
            if message.type in ("error", "warning"):
                seen.errors.append(message.text)

        def request(asked):
            if not asked.url.startswith(("file:", "data:", "blob:", "http://127.0.0.1:")):
                seen.outside.append(asked.url)

        seen.page.on("console", console)
        seen.page.on("pageerror", lambda error: seen.errors.append(str(error)))
        seen.page.on("request", request)
        seen.page.goto(address, wait_until="load")
        return seen

    yield open_
    for context in contexts:
        context.close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Keep the terminal clean."""


@pytest.fixture
def serve():
    """`serve(folder)` serves a folder on the loopback address and gives its address."""
    servers = []

    def start(folder):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=folder))
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
