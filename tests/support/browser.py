"""axe-core on pages of the built site, in a headless Chromium.

One page loads each of the others in a frame, under the light and the dark theme, runs axe there and posts what it found
to a server of this process.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Optional

#: The success criteria of WCAG 2.2, levels A and AA.
STANDARD = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")
#: What keeps a browser from talking to anybody.
ALONE = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-extensions --window-size=1300,1000"
).split()
HARNESS = """<!doctype html><html lang="en"><head><title>axe</title></head><body>
<iframe id="frame" title="page" style="width: 1280px; height: 960px"></iframe><script>
async function found(frame, source, rules) {
  const inside = frame.contentWindow;
  inside.eval(source);
  const all = [];
  for (const theme of ["light", "dark"]) {
    inside.document.body.dataset.theme = theme;
    await new Promise(done => setTimeout(done, 50));
    const only = theme == "light" ? rules : ["color-contrast"];  // themes differ in nothing else
    const result = await inside.axe.run(inside.document, {runOnly: only, resultTypes: ["violations"]});
    for (const each of result.violations)
      for (const node of each.nodes)
        all.push({theme, rule: each.id, help: each.help, target: node.target.join(" "), html: node.html.slice(0, 200)});
  }
  return all;
}
(async () => {
  const {pages, rules} = await (await fetch("/__pages")).json();
  const source = await (await fetch("/__axe")).text();
  const frame = document.getElementById("frame");
  for (const page of pages) {
    let result;
    try {
      await new Promise(done => { frame.onload = done; frame.src = "/" + page; });
      result = {page, violations: await found(frame, source, rules)};
    } catch (error) { result = {page, error: String(error)}; }
    await fetch("/__result", {method: "POST", body: JSON.stringify(result)});
  }
})();
</script></body></html>"""


def chromium() -> Optional[str]:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def axe() -> Optional[Path]:
    """axe.min.js of the package axe-playwright-python, which ``make docs-check`` installs without Playwright."""
    spec = find_spec("axe_playwright_python")
    path = Path(spec.origin).with_name("axe.min.js") if spec and spec.origin else None
    return path if path and path.exists() else None


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, *arguments: Any, state: dict[str, Any], **options: Any) -> None:
        self.state = state
        super().__init__(*arguments, **options)

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        given = {
            "/__harness": ("text/html", HARNESS),
            "/__axe": ("text/javascript", self.state["axe"]),
            "/__pages": ("application/json", json.dumps({"pages": self.state["pages"], "rules": STANDARD})),
        }.get(self.path)
        if given is None:
            return super().do_GET()
        body = given[1].encode()
        self.send_response(200)
        self.send_header("Content-Type", f"{given[0]}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.state["found"].append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()
        if len(self.state["found"]) == len(self.state["pages"]):
            self.state["done"].set()


def violations(site: Path, pages: Sequence[str], seconds: float = 1800) -> list[dict[str, Any]]:
    """One dict a page: ``page``, and ``violations`` or the ``error`` that kept axe from running."""
    browser, source = chromium(), axe()
    assert browser and source
    state = {"axe": source.read_text(encoding="utf-8"), "pages": list(pages), "found": [], "done": threading.Event()}
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, state=state, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as profile:
        # without --screenshot or --dump-dom a headless browser stays open; the port is for that alone
        options = [*ALONE, f"--user-data-dir={profile}", "--remote-debugging-port=0"]
        address = f"http://127.0.0.1:{server.server_port}/__harness"
        process = subprocess.Popen([browser, *options, address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            assert state["done"].wait(seconds), f"{len(state['found'])} of {len(pages)} pages in {seconds} s"
        finally:
            process.terminate()
            process.wait(30)
            server.shutdown()
    return state["found"]
