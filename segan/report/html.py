"""HTML in which every text is escaped unless it was made here: names of files are hostile data."""

import base64
import html
import io
import json
from typing import Any

from PIL import Image

from segan.overlay import Picture


class Html(str):
    """Text that is HTML already; `element` escapes any other."""

    __slots__ = ()


def escaped(text: str) -> Html:
    """Text as HTML; characters that do not print, such as reversals of writing, are spelled out."""
    shown = "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)
    return Html(html.escape(shown, quote=True))


def element(name: str, /, *children: str, **attributes: str | int | float | bool) -> Html:
    """An element, its children escaped unless they are Html.

    Args:
        name: Of the element.
        children: Text and elements.
        attributes: Their underscores are hyphens in HTML, one at the end is dropped (`class_`).
            True is an attribute without a value, False none at all.
    """
    parts = []
    for key, value in attributes.items():
        key = key.rstrip("_").replace("_", "-")
        if value is True:
            parts.append(f" {key}")
        elif value is not False:
            parts.append(f' {key}="{escaped(str(value))}"')
    inside = joined(*children)
    end = "" if name in ("img", "input", "meta", "br") else f"</{name}>"
    return Html(f"<{name}{''.join(parts)}>{inside}{end}")


def joined(*children: str) -> Html:
    """Texts and elements one after another."""
    return Html("".join(c if isinstance(c, Html) else escaped(c) for c in children))


def table(headings: list[str], rows: list[list[str]], *, caption: str = "", **kind: str) -> Html:
    """A table whose first column names its rows, in a box of its own that scrolls sideways."""
    head = element("tr", *(element("th", text, scope="col") for text in headings))
    lines = [
        element("tr", element("th", row[0], scope="row"), *(element("td", c) for c in row[1:]))
        for row in rows
    ]
    name = caption or "table"
    parts = element("thead", head), element("tbody", *lines)
    body = element("table", *parts, aria_label=name, **kind)
    box = element("div", body, class_="scroll", tabindex=0, role="region", aria_label=name)
    # Above the box, where it breaks into lines instead of scrolling away.
    return joined(element("h3", caption), box) if caption else box


def json_value(value: Any) -> str:
    """A value for an attribute that a script reads."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def embedded(picture: Picture, *, alt: str, quality: int = 82, **attributes: str | int) -> Html:
    """A picture uint8 [H, W, 3] inside the page."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", quality=quality)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    height, width = picture.shape[:2]
    return element(
        "img",
        src=f"data:image/webp;base64,{data}",
        alt=alt,
        width=width,
        height=height,
        **attributes,
    )
