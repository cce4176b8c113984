"""What was done, in sentences that each part of a run writes itself, and the literature that these cite.

A sentence cites by the keys of `references.bib`: `[@simes1986]` in parentheses, `@simes1986` within the sentence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, Self, runtime_checkable

import latentcortex
from latentcortex.errors import InputError

BIBTEX: Final = Path(__file__).with_name("references.bib")
ENTRY: Final = re.compile(r"^@(?P<kind>\w+)\{(?P<key>[^\s,]+),\s*$(?P<fields>.*?)^\}\s*$", re.MULTILINE | re.DOTALL)
FIELD: Final = re.compile(r"^\s*(\w+)\s*=\s*\{(.*)\},?\s*$", re.MULTILINE)
VENUES: Final = {"article": "journal", "inproceedings": "booktitle"}
"""The field of BibTeX that says where each kind of work appeared; `note` for all others."""
KEY: Final = r"@([A-Za-z]+\d{4}[a-z]?)"
"""How a text names a reference: letters and a year."""
CITATION: Final = re.compile(rf"\[({KEY}(?:; {KEY})*)\]|(?<![\w.]){KEY}")


@dataclass(frozen=True)
class Reference:
    """Something to cite.

    Parameters
    ----------
    key : str
        Of BibTeX.
    authors : tuple of str
        `Family, Given` each.
    year : int
    title, venue, doi : str
    kind : str
        Of BibTeX: `article`, `inproceedings`, `misc`.
    volume, pages : str
        Of the journal, or of the proceedings; empty where there is none.
    """

    key: str
    authors: tuple[str, ...]
    year: int
    title: str
    venue: str
    doi: str = ""
    kind: str = "article"
    volume: str = ""
    pages: str = ""

    def __str__(self) -> str:
        """Write it as a list of references does."""
        *first, last = self.authors
        joined = f"{', '.join(first)}, & {last}" if first else last
        place = ", ".join(part for part in (self.venue, self.volume, self.pages.replace("--", "-")) if part)
        place = f" {place}." if place else ""
        return f"{joined} ({self.year}). {self.title}.{place}" + (f" doi:{self.doi}" if self.doi else "")

    @property
    def names(self) -> str:
        """The family names of its authors as a text cites them; of three and more the first."""
        families = [author.partition(",")[0] for author in self.authors]
        return f"{families[0]} et al." if len(families) > 2 else " and ".join(families)

    @property
    def bibtex(self) -> str:
        """Write it for BibTeX."""
        fields = {"author": " and ".join(self.authors), "year": str(self.year), "title": f"{{{self.title}}}"}
        fields |= {VENUES.get(self.kind, "note"): self.venue, "volume": self.volume, "pages": self.pages}
        fields["doi"] = self.doi
        lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
        return "\n".join([f"@{self.kind}{{{self.key},", *lines, "}", ""])

    @classmethod
    def of_fields(cls, key: str, kind: str, fields: Mapping[str, str]) -> Self:
        """Make one of the fields of a BibTeX entry; raise `InputError` if author, year or title is missing."""
        lacking = [name for name in ("author", "year", "title") if not fields.get(name)]
        if lacking or not fields["year"].isdigit():
            raise InputError(
                f"BibTeX entry {key!r} has no {', '.join(lacking) or 'year in digits'}; expected author, year and "
                "title, one field a line."
            )
        venue = fields.get(VENUES.get(kind, "note"), "")
        doi, volume, pages = (fields.get(name, "") for name in ("doi", "volume", "pages"))
        authors, title = tuple(fields["author"].split(" and ")), fields["title"].strip("{}")
        return cls(key, authors, int(fields["year"]), title, venue, doi, kind, volume, pages)


def read_bibtex(text: str) -> dict[str, Reference]:
    """Read BibTeX with one field a line, key -> reference.

    Raises
    ------
    InputError
        If an entry lacks its author, year or title.
    """
    references = {}
    for entry in ENTRY.finditer(text):
        fields = {name.lower(): value for name, value in FIELD.findall(entry["fields"])}
        references[entry["key"]] = Reference.of_fields(entry["key"], entry["kind"].lower(), fields)
    return references


@cache
def literature() -> Mapping[str, Reference]:
    """Read the references of the package's own parts, key -> reference."""
    return read_bibtex(BIBTEX.read_text(encoding="utf-8"))


def cited_keys(text: str) -> list[str]:
    """List the keys that a text cites, each once, in the order in which they come.

    Examples
    --------
    >>> cited_keys("As @takagi2023 did, by the method of Simes [@simes1986; @takagi2023].")
    ['takagi2023', 'simes1986']
    """
    return list(dict.fromkeys(key for match in CITATION.finditer(text) for key in re.findall(KEY, match[0])))


def with_citations(text: str, references: Mapping[str, Reference]) -> str:
    """Replace keys by authors and years; what is not among the references stays as it is.

    Examples
    --------
    >>> with_citations("@takagi2023 used ridge [@duprelatour2022; @simes1986].", literature())
    'Takagi and Nishimoto (2023) used ridge (Dupré la Tour et al., 2022; Simes, 1986).'
    """

    def written(match: re.Match[str]) -> str:
        keys = re.findall(KEY, match[0])
        if any(key not in references for key in keys):
            return match[0]
        works = [references[key] for key in keys]
        if match[0].startswith("["):
            return f"({'; '.join(f'{work.names}, {work.year}' for work in works)})"
        return f"{works[0].names} ({works[0].year})"

    return CITATION.sub(written, text)


@runtime_checkable
class SelfDescribing(Protocol):
    """A part of a run that writes what it does in the sentences of a methods section.

    It may also have `references`, BibTeX of what these cite beyond the package's own `references.bib`.
    """

    @property
    def methods(self) -> Any:
        """The sentences, or a method that returns them."""
        ...


@dataclass(frozen=True)
class Sentences:
    """What one part of a run did.

    Parameters
    ----------
    text : str
        Whole sentences, with the keys of what they cite.
    references : str
        BibTeX of keys that are not among the package's own.
    """

    text: str
    references: str = ""


class MethodsPart(NamedTuple):
    """What was picked from a shelf.

    Parameters
    ----------
    made : object
    name : str
        On the shelf.
    arguments : mapping
        With which it was made.
    """

    made: object
    name: str
    arguments: Mapping[str, Any]


def sentences_of(kind: str, part: MethodsPart, **facts: Any) -> Sentences:
    """Let a part write its sentences; one that has no `methods` is named, with its arguments, in one sentence.

    Parameters
    ----------
    kind : str
        What it is: `estimator`.
    part : MethodsPart
    **facts
        What its `methods` is given.

    Raises
    ------
    InputError
        If its `methods` returns no sentences, or cites a key of which no reference is given.
    """
    made, name, arguments = part
    if not isinstance(made, SelfDescribing):
        given = f" ({', '.join(f'{key}: {value}' for key, value in arguments.items())})" if arguments else ""
        return Sentences(
            f"The {kind} was {name}{given}, called from {software()}; it gives no description of what it does."
        )
    text = made.methods(**facts) if callable(made.methods) else made.methods
    more = getattr(made, "references", "")
    if not isinstance(text, str) or not isinstance(more, str):
        raise InputError(f"`methods` and `references` of {kind} {name!r} must be text; got {text!r:.60}, {more!r:.60}.")
    unknown = [key for key in cited_keys(text) if key not in {**literature(), **read_bibtex(more)}]
    if unknown:
        raise InputError(
            f"`methods` of {kind} {name!r} cites {', '.join(unknown)}, of which no reference is given; add BibTeX of "
            "it to the `references` of its class."
        )
    return Sentences(text, more)


def software() -> str:
    """Name the package and its version."""
    return f"latentcortex {latentcortex.__version__}"
