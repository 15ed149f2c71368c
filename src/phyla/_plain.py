"""What the commands print of a result where nobody asks for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_SHOWN, _SHOWN_BROKEN, _SHOWN_TOGETHER = 30, 5, 3


def summary(told: dict[str, Any]) -> str:
    lines = [
        f"{count(told['images'], 'file')}: {count(told['unique'], 'image')}, "
        f"{told['copies']:,} exact copies, {told['unreadable']:,} unreadable"
        + (f", {told['removed']:,} removed." if told["removed"] else "."),
        f"{count(told['groups'], 'group')}; {count(told['unsorted'], 'image')} left unsorted, "
        f"mean agreement {told['strength']:.0%}.",
    ]
    if told["changed"]:
        lines.append(f"{count(told['changed'], 'file')} changed since the last time, and looked at anew.")
    lines += _grown(told)
    for group in told["sizes"][:_SHOWN]:
        label = group["name"] or f"group {group['group']}"
        lines.append(f"  {label:24} {group['images']:9,}   agreement {group['strength']:4.0%}")
    if len(told["sizes"]) > _SHOWN:
        lines.append(f"  … and {len(told['sizes']) - _SHOWN:,} more")
    if told["classes"]:
        lines.append(f"{classes(told['classes'])}; {count(told['answers'], 'image')} answered for.")
        lines += [f"  {c['name']:24} {c['images']:9,}   {c['confirmed']:,} answered" for c in told["classes"][:_SHOWN]]
        if len(told["classes"]) > _SHOWN:
            lines.append(f"  … and {len(told['classes']) - _SHOWN:,} more")
    if last := told["spread"]:
        from_answers = f"Spread from {count(last['answers'], 'answer')}"
        lines.append(f"{from_answers}: {count(last['accepted'], 'image')} accepted, {_expected(last)}.")
        if last["edits_since"]:
            lines.append(f"  {last['edits_since']:,} said since then: phyla spread {told['project']}")
    if told["to_spread_again"]:
        lines.append("The labels were spread over other groups, and do not count: spread them again.")
        lines.append(f"  phyla spread {told['project']}")
    if told["findings"]:
        lines.append(f"{count(told['findings'], 'finding')} of the last audit: see the report.")
        if told["audit_of_other_groups"]:
            lines.append(f"  It knew other groups than these. To check anew: phyla audit {told['project']}")
    for broken in told["unreadable_files"][:_SHOWN_BROKEN]:
        lines.append(f"  unreadable: {broken['uri']} ({broken['reason']})")
    if len(told["unreadable_files"]) > _SHOWN_BROKEN:
        lines.append(f"  … and {len(told['unreadable_files']) - _SHOWN_BROKEN:,} more unreadable: see the report")
    if told["report"]:
        lines.append(f"Report: {told['report']}")
    return "\n".join([*lines, f"Project: {told['project']}"])


def _grown(told: dict[str, Any]) -> list[str]:
    drift, project = told["drift"], told["project"]
    if why := told["regrouped"]:
        return [f"Grouped anew: {why}."]
    if not drift or not drift["since"]:
        return []
    line = f"{count(drift['since'], 'image')} added since the groups were made; {drift['strange']:,} fit none of them."
    if not drift["anew"]:
        return [line]
    return [line, f"  Perhaps there are new classes. To group anew: phyla sort --project {project} --anew"]


def count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def classes(listed: Sequence[Any]) -> str:
    return f"{len(listed):,} class{'' if len(listed) == 1 else 'es'}"


def taken_in(told: dict[str, Any]) -> str:
    lines = [f"{count(told['answers'], 'image')} in {classes(told['classes'])}:"]
    lines += [f"  {name:24} {images:9,}" for name, images in list(told["classes"].items())[:_SHOWN]]
    if told["unknown"]:
        lines.append(f"{told['unknown']:,} of the uris are no image of this project.")
    return "\n".join([*lines, f"People have answered for {count(told['total'], 'image')}."])


def spread(told: dict[str, Any]) -> str:
    return (
        f"{told['answers']:,} answers spread to {count(told['images'], 'image')} in {classes(told['classes'])}.\n"
        f"{told['accepted']:,} are accepted, {_expected(told)}; "
        f"{told['images'] - told['accepted']:,} wait for a person: phyla suggest {told['project']}"
    )


def predicted(told: dict[str, Any]) -> str:
    lines = [
        f"{count(told['images'], 'file')}: {told['unreadable']:,} unreadable, "
        f"{told['deferred']:,} for a person to look at."
    ]
    lines += [f"  {name:24} {images:9,}" for name, images in list(told["classes"].items())[:_SHOWN]]
    if len(told["classes"]) > _SHOWN:
        lines.append(f"  … and {len(told['classes']) - _SHOWN:,} more")
    return "\n".join([*lines, f"Written to {told['to']}."])


def _expected(told: dict[str, Any]) -> str:
    from phyla._telling import expected

    return expected(told)


def trained(told: dict[str, Any]) -> str:
    right = "right" if told["checked"] else "as taught"  # unchecked, it is known only whose word it repeats
    lines = [f"{classes(told['classes'])}, taught by {told['taught_by']}.", f"  {'':24}{right:>9}{'img/s':>9}{'MB':>7}"]
    for one in told["students"]:
        mark = "   recommended" if one["recommended"] else ""
        lines.append(
            f"  {one['backbone']:24}{one['right']:9.1%}{one['images_per_second']:9.0f}{one['megabytes']:7.0f}{mark}"
        )
    if len(told["students"]) > 1:
        every, turn = told["together"], told["cascade"]
        lines.append(f"  {'all together':24}{every['right']:9.1%}{every['images_per_second']:9.0f}")
        lines.append(
            f"  {'cascade':24}{turn['right']:9.1%}{turn['images_per_second']:9.0f}   {turn['cost']:.0%} of all"
        )
    for file in told["written"]:
        wrong = file["stated_error"]
        error = "how many of them are wrong is not known" if wrong is None else f"{wrong:.1%} of them expected wrong"
        lines.append(
            f"{file['file']}: {file['megabytes']:.1f} MB; {file['taken']:.0%} of images not deferred, {error}."
        )
        if file["same_as_float"] is not None:
            lines.append(f"  in integers it says the same of {file['same_as_float']:.1%} of images")
    if not told["written"]:
        lines.append(f"Write one: phyla train {told['project']} classifier.onnx")
    return "\n".join(lines)


def audited(findings: list[dict[str, Any]]) -> str:
    by_check: dict[str, list[dict[str, Any]]] = {}
    for finding in findings:
        by_check.setdefault(finding["check"], []).append(finding)
    lines = [f"{count(len(findings), 'finding')}."]
    for check, found in by_check.items():
        lines.append(f"{check} ({len(found):,})")
        for f in found[:_SHOWN_BROKEN]:
            lines += [f"  {f['severity']:4.0%}  {f['why']}", *(f"        {uri}" for uri in f["uris"][:_SHOWN_TOGETHER])]
        if len(found) > _SHOWN_BROKEN:
            lines.append(f"  … and {len(found) - _SHOWN_BROKEN:,} more")
    return "\n".join(lines)


def explained(told: dict[str, Any]) -> str:
    lines = _explained_picture(told) if "prototypes" in told else _explained_group(told)
    lines += [told["heat_why"]] if told.get("heat_why") else []
    return "\n".join(lines + ([f"Written to {told['to']}."] if told.get("to") else []))


def _explained_picture(told: dict[str, Any]) -> list[str]:
    name, rival = told["name"], told["rival"]
    if rival is None:
        return [f"{told['uri']} is {name}; there is nothing else that it could be."]
    lines = [f"{told['uri']} is {name} rather than {rival}: its lead is {told['lead']:.3f}."]
    if told["lead"] < 0:
        lines.append(f"More speaks for {rival}: {name} may be wrong.")
    for key, of in (("prototypes", name), ("counter_examples", rival)):
        lines.append(f"Most like it, of {of}:")
        lines += [f"  {one['distance']:9.2f} away   {one['uri']}" for one in told[key][:_SHOWN_TOGETHER]]
    for side, of in (("for", name), ("against", rival)):
        lines.append(f"Pushed it most to {of}, of {told['learnt_from']:,} images:")
        pushed = told["pushes"][side][:_SHOWN_TOGETHER]
        lines += [f"  {one['push']:+9.4f}   {one['name']:16} {one['uri']}" for one in pushed]
    return lines


def _explained_group(told: dict[str, Any]) -> list[str]:
    lines = [f"{told['name']}: {count(told['images'], 'image')}."]
    for key, title in (("typical", "Most typical:"), ("uncertain", "Least certain:"), ("near", "Nearest of others:")):
        shown = told[key][:_SHOWN_TOGETHER]
        lines += [title, *(f"  {one['uri']}{'   ' + one['name'] if 'name' in one else ''}" for one in shown)]
    for side, whose in (("more", told["name"]), ("less", told["against"])):
        for one in told["concepts"][side]:
            lines.append(f"{whose} has more of this in {one['share']:.0%} of pairs:")
            lines += [f"  {uri}" for uri in one["uris"][:_SHOWN_TOGETHER]]
    if not (told["concepts"]["more"] or told["concepts"]["less"]):
        lines.append("No concept tells it apart clearly.")
    return lines


def found(told: list[dict[str, Any]]) -> str:
    lines = [f"{of['similarity']:5.2f}  {of['name'] or 'group ' + str(of['group']):24} {of['uri']}" for of in told]
    return "\n".join(lines) or "Nothing is found."


def ranked(told: dict[str, Any]) -> str:
    ways, matched = told["ways"], told["matched"]
    first, last = ways[0], ways[-1]
    lines = [
        f"{count(told['images'], 'image')} in {count(told['groups'], 'group')}, made in {count(len(ways), 'way')}.",
        f"First: {first['method']} on {' + '.join(first['networks'])}, {first['axes']} axes of each network.",
    ]
    for part in ("networks", "axes", "methods"):
        lines += ["", f"{part:32}mean rank   best rank"]
        lines += [f"{row['name']:32}{row['rank']:9.1f}{row['best']:12.1f}" for row in told[part]]
    lines += ["", f"{'figure':32}{'first':>9}{'last':>9}   worth (Spearman)"]
    for figure, worth in sorted(told["worth"].items(), key=lambda row: -sum(row[1])):
        lines.append(f"{figure:32}{first[figure]:9.3f}{last[figure]:9.3f}   {_each(worth)}")
    lines += ["", f"Ranked by {told['ranked_by']}. On three labelled sets this ranking matched accuracy with"]
    lines += [f"Spearman's correlation {_each(matched['ways'])} (1 is the same order, 0 chance):"]
    lines += ["", f"{'':32}" + "".join(f"{part:>10}" for part in matched)]
    for row, name in enumerate(told["labelled"]):
        lines.append(f"{name:32}" + "".join(f"{each[row]:10.2f}" for each in matched.values()))
    return "\n".join(lines)


def _each(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


def checked(told: dict[str, Any]) -> str:
    lines = [f"{fault['file']} {fault['what']}." for fault in told["faults"]]
    lines = [f"{line}\n  {f['mended']}" if f["mended"] else line for line, f in zip(lines, told["faults"], strict=True)]
    if told["unchecked"]:
        lines.append(f"{count(len(told['unchecked']), 'file')} of an older version without a checksum.")
    if told["leftovers"]:
        lines.append(f"{count(len(told['leftovers']), 'file')} that a killed run left; the next one removes them.")
    size = f"{count(told['files'], 'file')}, {told['megabytes']:,} MB"
    if told["whole"]:
        return "\n".join([*lines, f"{size}: {'all is mended' if told['faults'] else 'all is whole'}."])
    left = sum(not fault["mended"] for fault in told["faults"])
    mended = any(fault["mended"] or "can't be" in fault["what"] for fault in told["faults"])
    hint = "" if mended else f" To mend what can be: phyla check {told['project']} --repair"
    return "\n".join([*lines, f"{size}: {count(left, 'fault')}.{hint}"])


def backbone_table(told: list[dict[str, Any]]) -> str:
    lines = [f"{'name':12}{'pixels':>7}{'dim':>6}{'MB':>6}{'img/s':>7}  {'licence':12}offline"]
    for c in told:
        offline = "yes" if c["offline"] else "no"
        speed = "?" if c["images_per_second"] is None else f"{c['images_per_second']:.0f}"
        lines.append(
            f"{c['name']:12}{c['size']:>7}{c['dim']:>6}{c['megabytes']:>6.0f}{speed:>7}  {c['licence']:12}{offline}"
        )
    lines.append("img/s: on the two cores of docs/benchmarks.md; phyla backbones --measure times this machine.")
    lines.append("Others: onnx:FILE.onnx (offline), and timm:NAME, openclip:NAME/TAG, hf:ORG/REPO (extras).")
    return "\n".join(lines)
