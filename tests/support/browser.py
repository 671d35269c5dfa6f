"""A headless browser for the page of ``tpcalc report``: Debian's chromium, driven by selenium."""

from __future__ import annotations

import importlib.util
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: Where the browser and its driver are looked for.
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
DRIVER = "chromedriver"
OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
)  # fmt: skip
SIZE = (1440, 900)


def missing() -> str:
    """Why no browser can be driven here; empty if one can."""
    if importlib.util.find_spec("selenium") is None:
        return "selenium is not installed: pip install 'tpcalc[browser]'"
    if not any(map(shutil.which, BROWSERS)):
        return f"there is no browser ({', '.join(BROWSERS)}): apt-get install chromium"
    return "" if shutil.which(DRIVER) else f"there is no {DRIVER}: apt-get install chromium-driver"


def axe() -> str:
    """The source of axe-core, empty where it is not installed."""
    found = importlib.util.find_spec("axe_playwright_python")
    if found is None or found.origin is None:
        return ""
    return (Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8")


class Browser:
    """One window.  Errors on its console and requests are kept, from when a page is opened."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.before = 0.0

    def open(self, path: Path, part: str = "", **media: str) -> None:
        """``media``: ``prefers_color_scheme="dark"``."""
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.driver.get("about:blank")
        self._read()
        self.driver.execute_cdp_cmd("Performance.disable", {})
        self.driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
        self.before = 0.0
        self.before = self.worked()
        self.errors, self.requests = [], []
        self.driver.get(path.as_uri() + (f"#{part}" if part else ""))

    def run(self, script: str, *given: Any) -> Any:
        """The value of a JavaScript expression, ``given`` as its ``arguments``."""
        return self.driver.execute_script(f"return ({script})", *given)

    def until(self, script: str, seconds: float = 8.0) -> Any:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while not (found := self.run(script)):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.03)
        return found

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def all(self, selector: str) -> list[Any]:
        return [each for each in self.driver.find_elements("css selector", selector) if each.is_displayed()]

    def texts(self, selector: str) -> list[str]:
        return self.run("[...document.querySelectorAll(arguments[0])].map((e) => e.textContent)", selector)

    def named(self, name: str, selector: str = "button") -> Any:
        """The button that says this."""
        return next(each for each in self.all(selector) if each.text.strip() == name)

    def press(self, *keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def click_at(self, x: float, y: float) -> None:
        """A real click into the window, in CSS pixels."""
        from selenium.webdriver.common.actions.action_builder import ActionBuilder

        mouse = ActionBuilder(self.driver)
        mouse.pointer_action.move_to_location(round(x), round(y)).click()
        mouse.perform()

    def settle(self) -> None:
        """Wait until the drawing has been drawn and nothing moves."""
        self.driver.execute_async_script(
            "const done = arguments[0]; setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(done)), 260)"
        )

    def worked(self) -> float:
        """Seconds that the page has kept a core busy since it was opened: scripts, styles, drawing."""
        metrics = self.driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
        return next(each["value"] for each in metrics if each["name"] == "TaskDuration") - self.before

    def troubles(self) -> list[str]:
        """Errors and warnings on the console since the page was opened, and requests of anything but the page."""
        self._read()
        return [*self.errors, *(url for url in self.requests if not url.startswith("file://"))]

    def _read(self) -> None:
        self.errors += [entry["message"] for entry in self.driver.get_log("browser")]
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                url = message["params"]["request"]["url"]
                if url != "about:blank":
                    self.requests.append(url)

    def violations(self, *rules: str) -> list[str]:
        """What axe-core finds wrong on the page as it is now, by these rules or all."""
        if not self.run("typeof axe !== 'undefined'"):
            self.driver.execute_script(axe())
        options = {"resultTypes": ["violations"], **({"runOnly": rules} if rules else {})}
        script = "axe.run(document, arguments[0]).then((found) => found.violations, String).then(arguments[1])"
        found = self.driver.execute_async_script(script, options)
        assert isinstance(found, list), found
        return [f"{each['id']}: {each['nodes'][0]['html'][:200]} ({each['help']})" for each in found]

    def picture(self, path: Path) -> None:
        self.settle()
        self.driver.save_screenshot(str(path))


@contextmanager
def started() -> Iterator[Browser]:
    """A browser of its own, with nothing of another one's."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = next(filter(None, map(shutil.which, BROWSERS)))
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for option in (*OPTIONS, f"--user-data-dir={profile}", "--window-size={},{}".format(*SIZE)):
            options.add_argument(option)
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which(DRIVER)))
        try:
            width, height = SIZE
            sized = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sized)
            driver.set_script_timeout(60)
            yield Browser(driver)
        finally:
            driver.quit()


__all__ = ["Browser", "axe", "missing", "started"]
