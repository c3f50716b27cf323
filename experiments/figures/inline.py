"""Drawings of matplotlib as a part of an HTML page."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
_STYLE = "stroke-linejoin: round; stroke-linecap: butt"  # of matplotlib's style sheet
_LOCAL = re.compile(r"#([\w.-]+)")  # a reference inside of a drawing: href="#a", url(#a)


def inlined(drawing: str, title: str, prefix: str) -> str:
    """Return an SVG file as an element of a page, which says its title to those who cannot see it.

    What a file needs and an element does not is left out: name spaces, metadata, the size in
    points, a style sheet, which would be the whole page's. Of the ids only those that are referred
    to stay, under names of their own, as all drawings of a page share one space of ids.

    Args:
        drawing: As matplotlib writes it.
        title: What it shows.
        prefix: Of its ids, another one for every drawing of a page.
    """
    root = ET.fromstring(drawing)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{_SVG}metadata", f"{_SVG}style"):
                parent.remove(child)
    known = {element.attrib["id"] for element in root.iter() if "id" in element.attrib}
    used = known & {name for element in root.iter() for value in element.attrib.values()
                    for name in _LOCAL.findall(value)}  # fmt: skip
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        element.attrib = {
            key.removeprefix(_XLINK): _renamed(key, value, used, prefix)
            for key, value in element.attrib.items()
            if key != "id" or value in used
        }
        element.text, element.tail = _unless_blank(element.text), _unless_blank(element.tail)
    for size in ("width", "height", "version"):
        root.attrib.pop(size, None)
    root.attrib |= {"role": "img", "aria-label": title, "style": _STYLE}
    said = ET.Element("title")
    said.text = title
    root.insert(0, said)
    return ET.tostring(root, encoding="unicode", short_empty_elements=False)


def _renamed(key: str, value: str, used: set[str], prefix: str) -> str:
    """Return an attribute's value with the ids in it renamed; colors look like references."""
    if key == "id":
        return f"{prefix}{value}"
    return _LOCAL.sub(lambda found: f"#{prefix}{found[1]}" if found[1] in used else found[0], value)


def _unless_blank(text: str | None) -> str | None:
    return text if text and text.strip() else None
