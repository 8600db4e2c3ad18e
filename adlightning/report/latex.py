"""Tables as LaTeX: booktabs rules in a longtable, which may be longer than a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from adlightning.report.grid import Entry, Grid

_WIDTH = 88  # characters of \footnotesize on a page, about
_LAST_LATIN = 0x17F
_ESCAPES = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "[": "{[}",  # at the start of a line, an argument of the line break before it
    "]": "{]}",
    "±": r"$\pm$",
    "★": r"$\star$",
    "*": r"$^{*}$",
    "→": r"$\rightarrow$",
    "…": r"\ldots{}",
    "√": r"$\surd$",
}


def latex_report(
    title: str, facts: Sequence[tuple[str, str]], grids: Sequence[Grid], pictures: Mapping[str, str] = {}
) -> str:
    """All tables and pictures (caption by file name), to be \\input into a document; what was run is in comments."""
    packages = "booktabs,longtable,graphicx" if pictures else "booktabs,longtable"
    head = [
        title,
        *(f"{name}: {text}" for name, text in facts),
        rf"Needs \usepackage[T1]{{fontenc}} \usepackage{{{packages}}}",
    ]
    comments = "\n".join(f"% {' '.join(line.split())}" for line in head)
    figures = [_figure(file, caption) for file, caption in pictures.items()]
    return "\n\n".join([comments, *(latex_table(grid) for grid in grids), *figures]) + "\n"


def _figure(file: str, caption: str) -> str:
    lines = [r"\begin{figure}", r"\centering", rf"\includegraphics[width=\linewidth]{{{file}}}"]
    return "\n".join([*lines, rf"\caption{{{escape(caption)}}}", r"\end{figure}"])


def latex_table(grid: Grid) -> str:
    """A table with caption, label and footnotes; one of many columns goes into several tabulars."""
    parts = [_part(part, number) for number, part in enumerate(grid.split(_WIDTH))]
    notes = [f"\\textsuperscript{{{mark}}} {escape(text)}" for mark, text in grid.footnotes.items()]
    notes += [escape(text) for text in grid.remarks]
    below = "\\par\n".join(f"{{\\footnotesize\\noindent {note}}}" for note in notes)
    return "\n".join(part for part in (*parts, below) if part)


def _part(grid: Grid, number: int) -> str:
    caption = escape(f"{grid.title}. {grid.caption}".rstrip())
    label = escape_label(grid.id) + (f"-{number + 1}" if number else "")
    stubs, columns = len(grid.stub_headings), len(grid.headings)
    names = [escape(heading) for heading in grid.stub_headings]
    heading = [*names, *(_wrapped(entry) for entry in grid.headings)]
    lines = [
        "{\\footnotesize\\setlength{\\tabcolsep}{4pt}",
        f"\\begin{{longtable}}{{{'l' * stubs}{'r' * columns}}}",
        f"\\caption{{{caption}}}\\label{{tab:{label}}}\\\\",
        "\\toprule",
        f"{' & '.join(heading)} \\\\",
        "\\midrule",
        "\\endhead",
        "\\bottomrule",
        "\\endfoot",
    ]
    for position, line in enumerate(grid.lines):
        if line.new_block:
            lines.append("\\midrule")
        elif line.first and position and line.kind:
            lines.append("\\addlinespace")
        entries = [_entry(entry) for entry in (*line.shown_stub, *line.entries)]
        together = position + 1 < len(grid.lines) and not grid.lines[position + 1].first
        lines.append(f"{' & '.join(entries)} \\\\{'*' if together else ''}")
    return "\n".join([*lines, "\\end{longtable}}"])


def escape(text: str) -> str:
    """Plain text as LaTeX text; characters that LaTeX's usual fonts lack are given by number."""
    return "".join(_escape_character(character) for character in " ".join(text.split()))


def _escape_character(character: str) -> str:
    if character in _ESCAPES or ord(character) <= _LAST_LATIN:
        return _ESCAPES.get(character, character)
    return f"{{[}}U+{ord(character):04X}{{]}}"


def escape_label(text: str) -> str:
    """A label of letters, digits and hyphens."""
    return "".join(character if character.isascii() and character.isalnum() else "-" for character in text)


def _entry(entry: Entry) -> str:
    text = escape(entry.text)
    if entry.bold:
        text = f"\\textbf{{{text}}}"
    return text + (f"\\textsuperscript{{{','.join(entry.marks)}}}" if entry.marks else "")


def _wrapped(entry: Entry) -> str:
    """A heading with a word a line, right-aligned, in a tabular of its own."""
    words = [escape(word) for word in entry.text.split()] or [""]
    words[-1] += f"\\textsuperscript{{{','.join(entry.marks)}}}" if entry.marks else ""
    inner = r" \\ ".join(words)
    return f"\\begin{{tabular}}[b]{{@{{}}r@{{}}}}{inner}\\end{{tabular}}"
