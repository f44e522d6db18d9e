"""The frame of a page: style, script and the policy that lets a browser run nothing else."""

import base64
import hashlib
from importlib.resources import files

from segan.report.html import Html, element, joined


def document(title: str, *body: Html) -> str:
    """A whole page that needs no network and no other file.

    Args:
        title: Of the window.
        body: What is on it.
    """
    style, script = _asset("report.css"), _asset("report.js")
    policy = (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src {_digest(style)}; script-src {_digest(script)}"
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", style),
    )
    page = element("body", *body, element("script", script))
    return "<!doctype html>\n" + element("html", head, page, lang="en") + "\n"


def _asset(name: str) -> Html:
    """Style or script of this package."""
    return Html(joined(Html(files(__package__).joinpath(name).read_text(encoding="utf-8"))))


def _digest(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return f"'sha256-{digest}'"
