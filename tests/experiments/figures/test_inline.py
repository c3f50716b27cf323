from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from experiments.figures.inline import inlined

FILE = """<?xml version="1.0"?>
<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"
  width="10pt" height="5pt" viewBox="0 0 10 5" version="1.1">
 <metadata><date>2026-01-01</date></metadata>
 <defs><style>*{color: red}</style><path id="m1" d="M 0 0"/></defs>
 <g id="figure_1">
  <use xlink:href="#m1" style="fill: #a1b2c3" clip-path="url(#c1)"/>
  <text x="1">a &lt; b</text>
 </g>
 <clipPath id="c1"><rect width="3"/></clipPath>
</svg>"""


def test_a_drawing_keeps_its_shapes_and_loses_what_only_a_file_needs() -> None:
    drawing = inlined(FILE, "a <title> & more", "s-")
    root = ET.fromstring(drawing)
    assert root.attrib == {"viewBox": "0 0 10 5", "role": "img", "aria-label": "a <title> & more",
                           "style": "stroke-linejoin: round; stroke-linecap: butt"}  # fmt: skip
    assert root.findtext("title") == "a <title> & more"
    assert root.findtext(".//text") == "a < b"
    assert "http" not in drawing
    assert not re.search("metadata|<style|2026", drawing)


def test_ids_that_are_referred_to_get_names_of_their_own() -> None:
    root = ET.fromstring(inlined(FILE, "t", "s-"))
    ids = {element.attrib["id"] for element in root.iter() if "id" in element.attrib}
    assert ids == {"s-m1", "s-c1"}
    use = root.find(".//use")
    assert use is not None
    assert use.attrib == {"href": "#s-m1", "style": "fill: #a1b2c3", "clip-path": "url(#s-c1)"}


def test_two_drawings_of_a_page_share_no_id() -> None:
    found = [set(re.findall(r'id="([^"]*)"', inlined(FILE, "t", prefix))) for prefix in ("a", "b")]
    assert found[0]
    assert not found[0] & found[1]
