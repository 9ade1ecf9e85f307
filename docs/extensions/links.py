"""Links from names in code type to the reference: `find_nearest`, `ng.graph`, `errors.NotFoundError`.

A name in a page or in a docstring is a link if exactly one public object has it.  In a docstring,
the methods of the class that is described come first, in a table those of what begins the row.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.parsers.rst.states import Inliner
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform

from extensions.reference import OWNERS, full_names


def _name_role(
    role: str, raw: str, text: str, line: int, inliner: Inliner, **_: Any
) -> tuple[list[nodes.Node], list[nodes.Node]]:
    """Return single backticks as code; `NameLinks` finds what it is the name of."""
    owner = inliner.document.settings.env.ref_context.get("py:class")
    return [nodes.literal(raw, nodes.unescape(text), named=True, owner=owner)], []


class NameLinks(SphinxTransform):
    """Make a link of each name in code type that is known."""

    default_priority = 210

    def apply(self, **_: Any) -> None:
        """Replace the literals of a document that are names."""
        names = full_names()
        for literal in list(self.document.findall(nodes.literal)):
            if _is_within(literal, nodes.reference, nodes.title, addnodes.desc_signature):
                continue
            target = _target(literal, names)
            if target is not None:
                reference = addnodes.pending_xref(
                    "",
                    refdomain="py",
                    reftype="obj",
                    reftarget=target,
                    refexplicit=True,
                    refwarn=True,
                )
                literal.replace_self(reference)
                reference += literal


def _is_within(node: nodes.Node, *kinds: type[nodes.Node]) -> bool:
    while node.parent is not None:
        node = node.parent
        if isinstance(node, (*kinds, addnodes.pending_xref)):
            return True
    return False


def _owner(literal: nodes.literal) -> str | None:
    """Return what a name belongs to: in a docstring its class, in a table what begins its row."""
    node: nodes.Node = literal
    while node.parent is not None and not isinstance(node, nodes.row):
        node = node.parent
    if isinstance(node, nodes.row) and node[0].astext() in OWNERS:
        return OWNERS[node[0].astext()]
    owner: str | None = literal.get("owner")
    return owner


def _target(literal: nodes.literal, names: dict[str, list[str]]) -> str | None:
    name = literal.astext().removesuffix("()")
    targets = names.get(name, [])
    owner = _owner(literal)
    own = [target for target in targets if owner and target.rpartition(".")[0].endswith(owner)]
    if own:
        return own[0]
    if not literal.get("named") and name.islower() and name.isalpha():
        return None  # a plain word on a page is more often a column or a value than a method
    return targets[0] if len(targets) == 1 else None


def _resolve(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, content: nodes.TextElement
) -> nodes.reference | None:
    """Resolve a short name, as the section Raises and annotations have it."""
    targets = full_names().get(node.get("reftarget", ""), [])
    if node.get("refdomain") != "py" or len(targets) != 1:
        return None
    return env.domains["py"].resolve_xref(
        env, node["refdoc"], app.builder, "obj", targets[0], node, content
    )


def _show_names_as_written(app: Sphinx, doctree: nodes.document) -> None:
    """Write ``ng.`` before methods of namespaces, and no internal module before a class."""
    for signature in doctree.findall(addnodes.desc_signature):
        for prefix in list(signature.findall(addnodes.desc_addname)):
            if prefix.astext().startswith("ngdata._"):
                prefix.parent.remove(prefix)
            elif signature.get("module") == "ng":
                prefix.insert(0, nodes.Text("ng."))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.add_role("name", _name_role)
    app.add_transform(NameLinks)
    app.connect("missing-reference", _resolve)
    app.connect("doctree-read", _show_names_as_written)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
