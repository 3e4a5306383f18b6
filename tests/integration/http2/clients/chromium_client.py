"""Reads a stream by a page in Chromium: the version and the id in the first line, then the body.

It aborts where a file ``leave`` is in its folder.
``python -m tests.integration.http2.clients.chromium_client URL ID CERTIFICATE``
"""

import base64
import hashlib
import sys
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.sync_api import Error, sync_playwright

from tests.support.browser import FLAGS, program

READ = """async ([url, id]) => {
  window.text = ""; window.told = ""; window.ended = "";
  window.leaving = new AbortController();
  try {
    const options = {headers: {"X-Hermes-Session-Id": id}, signal: window.leaving.signal};
    const response = await fetch(url, options);
    window.told = response.headers.get("x-hermes-session-id");
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const {value, done} = await reader.read();
      if (done) break;
      window.text += value;
    }
    window.ended = "whole";
  } catch (error) { window.ended = String(error); }
}"""
PROTOCOL = "performance.getEntriesByType('navigation')[0].nextHopProtocol"


def trusted(certificate: str) -> str:
    """Return the flag by which Chromium takes one certificate."""
    key = x509.load_pem_x509_certificate(Path(certificate).read_bytes()).public_key()
    digest = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    encoded = base64.b64encode(digest.digest()).decode()
    return f"--ignore-certificate-errors-spki-list={encoded}"


def main(url: str, session_id: str, certificate: str, *more: str) -> int:
    """Print what comes, until it ends; return the exit code."""
    flags = [flag for flag in FLAGS if "quic" not in flag or "quic" not in "".join(more)]
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=program(), args=[*flags, trusted(certificate), *more]
        )
        page = browser.new_page()
        parts = urlsplit(url)
        page.goto(f"{parts.scheme}://{parts.netloc}/blank")
        page.evaluate(f"argument => {{ ({READ})(argument); }}", [url, session_id])
        written, begun = 0, False
        while True:
            told, text, ended = page.evaluate("[window.told, window.text, window.ended]")
            if told and not begun:
                begun = True
                print(page.evaluate(PROTOCOL), told, flush=True)
            print(text[written:], end="", flush=True)
            written = len(text)
            if Path("leave").exists():
                page.evaluate("window.leaving.abort()")
                page.wait_for_function("window.ended")
                break
            if ended:
                break
            page.wait_for_timeout(50)
        browser.close()
    if ended not in {"", "whole"}:
        print(ended, file=sys.stderr)
    return int(ended not in {"", "whole"})


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except Error as exc:
        sys.exit(str(exc))
