"""HTML as a tree of elements: the standard library's serialiser escapes every text in it."""

from collections.abc import Iterable
from xml.etree.ElementTree import Element, tostring

Child = Element | str | None


def element(tag: str, *children: Child, **attributes: str | None) -> Element:
    """An element with its children in order.

    Args:
        tag: Name of the element.
        *children: Elements and texts; None is left out.
        **attributes: `class_` is written `class`, `aria_label` is `aria-label`; None is left out.
    """
    names = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
    made = Element(tag, {name: value for name, value in names.items() if value is not None})
    for child in children:
        if isinstance(child, Element):
            made.append(child)
        elif child is not None and len(made):
            made[-1].tail = (made[-1].tail or "") + child
        elif child is not None:
            made.text = (made.text or "") + child
    return made


def items(lines: Iterable[str]) -> Element | None:
    """A list of lines, in which `this` is code; None without lines."""
    made = [element("li", *_with_code(line)) for line in lines]
    return element("ul", *made) if made else None


def folded(title: str, lines: Iterable[str], *, unfolded: bool = False) -> Element | None:
    """A list below a title that a reader can fold up; None without lines."""
    listed = items(lines)
    if listed is None:
        return None
    return element("details", element("summary", title), listed, open="open" if unfolded else None)


def scrolling(table: Element, label: str) -> Element:
    """A box in which a table wider than the screen scrolls, by the keyboard as well."""
    return element("div", table, class_="scroll", role="region", tabindex="0", aria_label=label)


def head(headers: Iterable[str]) -> Element:
    """A table's line of column headers."""
    return element("thead", element("tr", *(element("th", h, scope="col") for h in headers)))


def as_html(root: Element) -> str:
    """The element as HTML. The texts of `script` and `style` are written as they are."""
    return tostring(root, encoding="unicode", method="html")


def _with_code(line: str) -> Iterable[Child]:
    for place, text in enumerate(line.split("`")):
        yield element("code", text) if place % 2 else text
