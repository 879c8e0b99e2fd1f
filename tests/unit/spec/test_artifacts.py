"""What steps return besides tables."""

import re
from html import unescape

from kommuna.spec.artifacts import Report


def test_a_notebook_shows_a_report_in_a_frame_of_its_own_without_scripts() -> None:
    page = '<html><head></head><body><a href="#x">"x" &amp; <b>y</b></a><script>1</script></body></html>'
    shown = Report(page)._repr_html_()
    found = re.fullmatch(r'<iframe sandbox srcdoc="([^"]*)" style="[^"]*"></iframe>', shown)
    assert found
    assert "<" not in found[1]
    assert unescape(found[1]).replace('<base href="about:srcdoc">', "") == page
