"""What ``kubectl xbuf plan`` prints. Pure."""

from __future__ import annotations

from typing import Final

from buffer_operator.plugin.layout import facts, table
from buffer_operator.plugin.preview import Preview

_CHANGES_MAX: Final = 10
_VALUE_MAX: Final = 22


def preview_text(preview: Preview) -> str:
    """Return the text for people."""
    parts = [facts([("Buffer", f"{preview.namespace}/{preview.name}: {_headline(preview)}"), *_notes(preview)])]
    rows = [[one.field, _cut(one.before), _cut(one.after), one.effect] for one in preview.fields]
    parts.append(table(["FIELD", "FROM", "TO", "EFFECT"], rows))
    if not preview.objection:
        parts.append(_steps(preview))
        parts.append(_restarts(preview))
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _headline(preview: Preview) -> str:
    if preview.objection:
        return "the operator would do nothing"
    if preview.new:
        return "would be made"
    count = len(preview.fields)
    return f"{count} field{'' if count == 1 else 's'} of the spec would change" if count else "the spec stays as it is"


def _notes(preview: Preview) -> list[tuple[str, str]]:
    return [
        ("", preview.objection),
        ("", "It is paused: the following would be done once it is not." if preview.paused else ""),
    ]


def _steps(preview: Preview) -> list[str]:
    if not preview.steps:
        return ["The operator would have nothing to do."]
    lines = ["The operator would:"]
    for step in preview.steps:
        lines.append(f"- {step.action}")
        lines += [f"    {change}" for change in step.changes[:_CHANGES_MAX]]
        if len(step.changes) > _CHANGES_MAX:
            lines.append(f"    and {len(step.changes) - _CHANGES_MAX} more")
    return lines


def _restarts(preview: Preview) -> list[str]:
    if preview.new:
        return []
    if not preview.restarts:
        return ["No pod would be restarted."]
    rows = [[one["pod"], one["reason"], one["message"]] for one in preview.restarts]
    return table(["RESTART", "REASON", "MESSAGE"], rows)


def _cut(text: str) -> str:
    return text if len(text) <= _VALUE_MAX else f"{text[: _VALUE_MAX - 1]}…"
