"""Docstrings for the reference: types stand once, in the signature, where they come from annotations."""

from __future__ import annotations

import inspect
import re
from typing import Any

from sphinx.application import Sphinx

# A type in words that says more than its annotation: a shape, or what a tuple or a table holds.
_SAYS_MORE = re.compile(r"shape|\(|table|frame|mapping of|bytes-like")
_MODULES = {"pd": "pandas", "np": "numpy", "pa": "pyarrow", "dt": "datetime"}
_PARAMETER = re.compile(r"(\S.*?) : (.+)")


def _sections(lines: list[str]) -> list[tuple[str, list[str]]]:
    """Return the sections of a NumPy docstring, the first without a name."""
    sections: list[tuple[str, list[str]]] = [("", [])]
    for line, following in zip(lines, [*lines[1:], ""], strict=False):
        if line and not line.startswith(" ") and re.fullmatch(r"-{3,}", following):
            sections.append((line, []))
        elif not (sections[-1][0] and not sections[-1][1] and re.fullmatch(r"-{3,}", line)):
            sections[-1][1].append(line)
    return sections


def _parameters(lines: list[str]) -> list[str]:
    return [
        match[1] if (match := _PARAMETER.fullmatch(line)) and not _SAYS_MORE.search(line) else line
        for line in lines
    ]


def _result(lines: list[str]) -> list[str]:
    """Return the section of one result without its type; one of several parts as it is."""
    if sum(bool(line) and not line.startswith(" ") for line in lines) != 1:
        return lines
    return [":", *lines[1:]] if any(lines[1:]) else []


def _write_types_once(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    written: list[str] = []
    for section, body in _sections(lines):
        if section == "Parameters":
            body = _parameters(body)
        elif section in ("Returns", "Yields"):
            body = _result(body)
        if section and body:
            written += [section, "-" * len(section)]
        written += body
    lines[:] = written


class _Source:
    """Text that stands in a signature as it is in the source."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _annotation(annotation: Any) -> Any:
    if annotation is inspect.Parameter.empty:
        return annotation
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return _Source(re.sub(r"\b(pd|np|pa|dt)\.", lambda match: _MODULES[match[1]] + ".", text))


def _write_annotations_as_in_source(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returned: str
) -> tuple[str, str] | None:
    """Write the types of a signature by the names that the source has for them.

    The constructor of a class that users do not call, because it documents no parameters, is left out.
    """
    if not signature:
        return None
    if what in ("class", "exception") and "Parameters\n" not in (inspect.getdoc(obj) or ""):
        return "", ""
    own = inspect.signature(obj)
    parameters = [
        parameter.replace(
            annotation=_annotation(parameter.annotation),
            default=_Source("...") if parameter.default is ... else parameter.default,
        )
        for parameter in own.parameters.values()
        if not (what == "method" and parameter.name == "self")
    ]
    result = "" if what in ("class", "exception") else _annotation(own.return_annotation)
    text = str(inspect.Signature(parameters))
    return text, "" if result is inspect.Signature.empty else str(result)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    # Before napoleon, which makes fields of the sections.
    app.connect("autodoc-process-docstring", _write_types_once, priority=400)
    app.connect("autodoc-process-signature", _write_annotations_as_in_source)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
