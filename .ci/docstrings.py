"""What griffe reads of a docstring, changed where the site needs another form; the docstrings stay as they are."""

import re
import textwrap
from typing import Any

from griffe import Extension, Object
from latex2mathml.converter import convert

EQUATION = re.compile(r"^( *)\.\. math::\n\n?((?:\1 +.+\n|\n(?=\1 ))+)", re.MULTILINE)
TABLE = re.compile(r"^( *)(=+(?: +=+)+\n(?:.*\n)*? *=+(?: +=+)+\n(?:.*\n)*? *=+(?: +=+)+)$", re.MULTILINE)
FORMULA = re.compile(r":math:`([^`]+)`")


class Sections(Extension):
    """`Example:` is griffe's `Examples:`, whose lines are code; equations are MathML; tables are text."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Change the text of one docstring."""
        if obj.docstring:
            text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
            text = TABLE.sub(r"\1```text\n\1\2\n\1```", EQUATION.sub(_equation, text))
            obj.docstring.value = FORMULA.sub(lambda match: convert(" ".join(match[1].split())), text)


def _equation(match: re.Match[str]) -> str:
    latex = " ".join(textwrap.dedent(match[2]).split())
    if "&" in latex and "begin" not in latex:
        latex = rf"\begin{{align*}} {latex} \end{{align*}}"
    html = f"""<div style="overflow-x: auto">{convert(latex, display="block")}</div>\n"""
    return textwrap.indent(html, match[1]) + "\n"
