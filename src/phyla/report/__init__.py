"""One self-contained page that shows what was found: the map, every group, what was left out and what broke."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from importlib import resources
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from phyla.report import _map
from phyla.types import UNSORTED, Finding, Grouping, Images

__all__ = ["render"]

_SIDE = 128  # pixels stored of a thumbnail, shown at about 84
# How the page speaks of groups, and of the classes that labels were spread to.
_WORDS = {
    "group": {
        "title": "Groups",
        "measure": "Agreement",
        "meaning": "Agreement tells how clear a case its images are, in the mean.",
        "aside": "left unsorted",
        "out": "was left unsorted",
        "left": "Unsorted",
        "why": "that would not settle in one group",
        "else": "nearest",
    },
    "class": {
        "title": "Classes",
        "measure": "Sureness",
        "meaning": "Sureness is how probable its class is for an image, in the mean.",
        "aside": "waiting for a person",
        "out": "waits for a person",
        "left": "Waiting for a person",
        "why": "whose class is not sure enough",
        "else": "perhaps",
    },
}
_DOUBTFUL, _UNSORTED_SHOWN, _UNREADABLE_SHOWN = 4, 24, 200
_FINDINGS_SHOWN, _PICTURES_OF_A_FINDING = 12, 3  # of a check; of one finding
_FACES = 5  # most typical images tried, until one opens, as the picture of a group on the map
# Control characters, marks that turn the reading direction round, and halves of characters have no place on a page.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def render(
    *,
    title: str,
    summary: Mapping[str, Any],
    images: Images,
    grouping: Grouping,
    names: Mapping[int, str],
    typicality: NDArray[np.float32],
    points: NDArray[np.float32],
    unreadable: Sequence[tuple[str, str]],
    explanation: str,
    evidence: Sequence[Sequence[float]] = (),
    n_groups: int | None = None,
    findings: Sequence[Finding] = (),
    spread: bool = False,
    thumbnails_per_group: int = 12,
) -> str:
    """Return the page as HTML: no script, no request to anywhere, the same bytes for the same input.

    Parameters
    ----------
    summary : `images` (files seen), `copies`, `unreadable`, `removed`, `backbones`, `source`.
    names : group → name; a group without one is called by its number.
    typicality : (n,), higher = more typical of its group. points : (n, 2), where each image lies on the map.
    unreadable : (uri, reason) of each file that is no image. explanation : what was chosen and why, in two
        sentences. evidence : rows of (number of groups tried, how well runs agreed, …), if the number was found.
    n_groups : the number that was taken; that of `grouping` by default.
    findings : what an audit found, most severe first. spread : the groups are classes that labels were spread to.

    Notes
    -----
    Cost: that of opening 17 images a group; 43 groups of photographs take 3 s and make 3.4 MB.
    """
    labels, kind = grouping.labels, "class" if spread else "group"
    words = _WORDS[kind]
    found, sizes = np.unique(labels[labels != UNSORTED], return_counts=True)
    groups = [int(g) for g in found[np.argsort(-sizes, kind="stable")]]
    members = {g: np.flatnonzero(labels == g) for g in groups}
    ranked = {g: rows[np.argsort(-typicality[rows], kind="stable")] for g, rows in members.items()}
    colours = _map.palette(len(groups))
    quality = 80 if len(groups) * thumbnails_per_group <= 300 else 55  # 50 groups of 12 stay under 4 MB

    def name(g: int) -> str:
        return _printable(names.get(g, "")).strip() or f"Group {g}"

    @cache
    def thumbnail(row: int) -> str:
        """A data: URI, or nothing where the image fails to open."""
        try:
            # Lanczos keeps small pictures crisp when enlarged, where a browser would blur them.
            picture = ImageOps.fit(Image.fromarray(images.open(row, _SIDE)), (_SIDE, _SIDE), Image.Resampling.LANCZOS)
        except Exception:  # a file may vanish or break after it was sorted: one picture must not cost the page
            return ""
        buffer = io.BytesIO()
        picture.save(buffer, "WEBP", quality=quality, method=4)
        return _data_uri(buffer.getvalue())

    def gallery(rows: NDArray[np.intp], notes: Sequence[str] = ()) -> str:
        tags = []
        for i, row in enumerate(rows.tolist()):
            uri = _text(images.uris[row])
            tip = uri + (f" ({_text(notes[i])})" if notes and notes[i] else "")
            if data := thumbnail(row):
                tags.append(f'<img src="{data}" alt="{uri}" title="{tip}" width="{_SIDE}" height="{_SIDE}">')
            else:
                tags.append(f'<span class="lost" role="img" aria-label="{uri}" title="{tip}">cannot be opened</span>')
        return "".join(tags)

    def card(g: int, colour: str) -> str:
        others = ranked[g][thumbnails_per_group:]
        doubtful = others[np.lexsort((typicality[others], grouping.strength[others]))][:_DOUBTFUL]
        notes = [f"{words['measure'].lower()} {_percent(s)}" for s in grouping.strength[doubtful]]
        agreement = float(grouping.strength[members[g]].mean())
        facts = [_count(len(members[g]), "image"), f"{_percent(len(members[g]) / len(labels))} of all"]
        return _part(
            "card",
            id=g,
            colour=colour,
            name=_text(name(g)),
            facts=" · ".join(facts + [f"group {g}"] * (g in names and not spread)),
            measure=words["measure"],
            agreement=_percent(agreement),
            agreement_width=f"{100 * agreement:.1f}",
            typical=gallery(ranked[g][:thumbnails_per_group]),
            least=_part("least", grid=gallery(doubtful, notes)) if len(doubtful) else "",
        )

    def chart(shades: Sequence[str]) -> str:
        xy = _map.fit(points)
        codes = np.full(max(groups, default=0) + 2, -1)  # its last entry answers for UNSORTED
        codes[groups] = np.arange(len(groups))
        side = round(float(np.clip(np.sqrt(190_000 / max(len(groups), 1)), 36, 92)))
        captions = [name(g) if len(name(g)) <= 18 else f"{name(g)[:17]}…" for g in groups]
        boxes = np.array([(max(side, 12.5 * len(caption)), side + 28) for caption in captions]).reshape(-1, 2)
        anchors = np.array([_map.medoid(xy[members[g]]) for g in groups]).reshape(-1, 2)
        centres = _map.place(anchors, boxes, xy)
        lines, marks = [], []
        for g, caption, shade, (x, y), (to_x, to_y) in zip(groups, captions, shades, centres, anchors, strict=True):
            left, top = f"{x - side / 2:.0f}", f"{y - side / 2 - 14:.0f}"
            lines.append(f'<path d="M{x:.0f} {y - 14:.0f}L{to_x:.0f} {to_y:.0f}" stroke="{shade}"/>')
            box = f'x="{left}" y="{top}" width="{side}" height="{side}"'
            face = next(filter(None, map(thumbnail, ranked[g][:_FACES].tolist())), "")
            marks.append(
                _part(
                    "mark",
                    id=g,
                    name=_text(name(g)),
                    caption=_text(caption),
                    colour=shade,
                    box=box,
                    round=f"{0.16 * side:.0f}",
                    image=f'<image href="{face}" {box} clip-path="url(#round)"/>' if face else "",
                    x=f"{x:.0f}",
                    baseline=f"{y + side / 2 + 10:.0f}",
                )
            )
        raster = _data_uri(_map.dots(xy, codes[labels], colours))
        size = {"width": _map.WIDTH, "height": _map.HEIGHT}
        said = {"kind": kind, "out": words["out"]}
        return _part("chart", raster=raster, lines="".join(lines), marks="".join(marks), **size, **said)

    def left_out() -> str:
        rows = np.flatnonzero(labels == UNSORTED)
        shown = rows[np.unique(np.linspace(0, len(rows) - 1, _UNSORTED_SHOWN).astype(int))]
        text = f"{_count(len(rows), 'image')} {words['why']}."
        if len(shown) < len(rows):
            text += f" Here are {len(shown)}, spread evenly over them."
        notes = [f"{words['else']}: {name(int(g))}" if g >= 0 else "" for g in grouping.best[shown]]
        return _part("unsorted", title=words["left"], text=text, grid=gallery(shown, notes))

    def checks() -> str:
        row_of = dict(zip(images.ids.tolist(), range(len(images)), strict=True))
        by_check: dict[str, list[Finding]] = {}
        for finding in findings:
            by_check.setdefault(finding.check, []).append(finding)
        parts = []
        for check, found in by_check.items():
            items = []
            for finding in found[:_FINDINGS_SHOWN]:
                rows = [row_of[i] for i in finding.ids if i in row_of][:_PICTURES_OF_A_FINDING]
                pictures, why = gallery(np.array(rows, int)), _text(finding.why)
                items.append(_part("finding", pictures=pictures, why=why, severity=_percent(finding.severity)))
            facts = _count(len(found), "finding")
            if len(found) > _FINDINGS_SHOWN:
                facts += f", here the first {_FINDINGS_SHOWN}"
            title = _text(check.replace("_", " ").capitalize())
            parts.append(_part("check", title=title, facts=facts, items="".join(items)))
        text = f"{_count(len(findings), 'finding')} of the audit. The figure is how sure it is that something is wrong."
        return _part("checks", text=text, checks="".join(parts))

    def broken() -> str:
        rows = [f"<tr><td>{_text(uri)}</td><td>{_text(why)}</td></tr>" for uri, why in unreadable[:_UNREADABLE_SHOWN]]
        text = f"{_count(len(unreadable), 'file')} could not be read as an image."
        if len(unreadable) > len(rows):
            text += f" Here are the first {len(rows)}; {len(unreadable) - len(rows):,} more are not shown."
        return _part("unreadable", text=text, rows="".join(rows))

    shades = ["#" + bytes(colour).hex() for colour in colours]
    return _part(
        "page",
        title=_text(title),
        headline=_headline(summary, _count(len(groups), kind), f"{(labels == UNSORTED).sum():,} {words['aside']}"),
        explanation=_text(explanation),
        source=_text(summary["source"]),
        backbones=_text(", ".join(summary["backbones"])),
        chart=chart(shades) if len(labels) else "",
        cards=_part("cards", cards="".join(map(card, groups, shades)), title=words["title"], measure=words["meaning"])
        if groups
        else "",
        unsorted=left_out() if (labels == UNSORTED).any() else "",
        checks=checks() if findings else "",
        unreadable=broken() if unreadable else "",
        evidence=_evidence(evidence, n_groups or grouping.n_groups) if len(evidence) > 2 else "",
    )


def _headline(summary: Mapping[str, Any], groups: str, left_out: str) -> str:
    """The figures as a sentence for a stranger; what is nought goes unsaid."""
    copies = "exact copy" if summary["copies"] == 1 else "exact copies"
    named = {"removed": "removed", "unreadable": "unreadable", "copies": copies}
    asides = [left_out, *(f"{summary.get(key, 0):,} {text}" for key, text in named.items())]
    asides = [aside for aside in asides if not aside.startswith("0 ")]
    told = f"<b>{_count(summary['images'], 'image')}</b> in <b>{groups}</b>"
    return f"{told}{': ' if asides else ''}{', '.join(asides)}."


def _evidence(rows: Sequence[Sequence[float]], groups: int) -> str:
    """The curve of how well runs agree, over the logarithm of the number."""
    number, score = np.array([row[:2] for row in rows]).T
    x = 40 + 700 * np.log(number / number[0]) / np.log(number[-1] / number[0])
    low, high = score.min(), score.max()
    y = 175 - 145 * (score - low) / max(high - low, 1e-9)
    chosen = int(np.abs(number - groups).argmin())
    dots, marks, right = [], [], -np.inf
    for at, k in enumerate(number.astype(int).tolist()):
        kind, style = ('class="chosen" r="7"', ' class="chosen-text"') if at == chosen else ('r="3.5"', "")
        dots.append(f'<circle cx="{x[at]:.0f}" cy="{y[at]:.0f}" {kind}><title>{k}: {score[at]:.2f}</title></circle>')
        if at == chosen or (x[at] > right + 26 and abs(x[at] - x[chosen]) > 26):
            marks.append(f'<text{style} x="{x[at]:.0f}" y="208">{k}</text>')
            right = x[at]
    curve = "M" + "L".join(f"{a:.0f} {b:.0f}" for a, b in zip(x, y, strict=True))
    return _part("evidence", groups=groups, curve=curve, dots="".join(dots), marks="".join(marks))


@cache
def _parts() -> dict[str, Template]:
    text = (resources.files(__package__) / "_page.html").read_text(encoding="utf-8")
    pieces = re.split(r"<!-- part (\w+) -->\n", text)[1:]
    return {name: Template(html) for name, html in zip(pieces[::2], pieces[1::2], strict=True)}


def _part(part: str, /, **fields: Any) -> str:
    return _parts()[part].substitute(fields)


def _printable(text: Any) -> str:
    return _UNPRINTABLE.sub("\ufffd", str(text))


def _text(text: Any) -> str:
    """`text` made safe as HTML content and inside double-quoted attributes."""
    return escape(_printable(text))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 'es' if noun == 'class' else 's'}"


def _percent(share: float) -> str:
    return "<1%" if 0 < share < 0.005 else f"{100 * share:.0f}%"


def _data_uri(webp: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(webp).decode()}"
