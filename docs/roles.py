"""A hook of MkDocs: cross-references in docstrings, such as ``:class:`GapSchedule```, become plain code."""

import re

ROLE = re.compile(r":(?:class|func|meth|mod|attr|data):(?=<code>)")


def on_page_content(html: str, **_: object) -> str:
    """The page without the names of roles, which Markdown does not know."""
    return ROLE.sub("", html)
