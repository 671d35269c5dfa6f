"""Fields of the JSON documents, from their schemas."""

from __future__ import annotations

import json
import re
from typing import Any

from .words import first


def documents() -> str:
    from tpcalc.document import DOCUMENTS, schema

    parts = [
        "# JSON\n\n"
        "What `--format json` prints and files hold: versioned documents with a JSON Schema (`tpcalc schema NAME`). "
        'Exponents are text, exact rationals (`"-1/2"`); of several scales they are formulas or objects by symbol. '
        "A change of meaning is a new version in `schema`."
    ]
    for name in DOCUMENTS:
        found = schema(name)
        parts.append(
            f"## {name}\n\n{first(found.get('description'))}\n\n"
            f"[The schema](../../tpcalc/document/schemas/{name}.json).\n\n{_fields(name, found, found)}"
        )
        for definition, body in found.get("$defs", {}).items():
            if body.get("properties"):
                said = first(body.get("description"))
                parts.append(f"### {name}: {definition}\n\n{said}\n\n{_fields(name, body, found)}")
    return "\n\n".join(parts)


def _fields(name: str, body: dict[str, Any], document: dict[str, Any]) -> str:
    required = set(body.get("required", ()))
    rows = ["| field | type | always there | |", "|---|---|---|---|"]
    for field, of in body.get("properties", {}).items():
        kind = re.sub(r"\b[A-Z]\w+", lambda found: f"[{found[0]}](#{name}-{found[0].lower()})", _type(of))
        said = of.get("description") or " ".join(_of_parts(of, document))
        rows.append(f"| `{field}` | {kind} | {'yes' if field in required else ''} | {first(said)} |")
    return "\n".join(rows)


def _of_parts(field: dict[str, Any], document: dict[str, Any]) -> list[str]:
    """What is said of the documents that a field holds, where nothing is said of the field."""
    parts = [field, field.get("items") or {}, *field.get("anyOf", ())]
    names = [part["$ref"].rpartition("/")[2] for part in parts if "$ref" in part]
    return [document["$defs"][name].get("description", "") for name in names]


def _type(field: dict[str, Any]) -> str:
    if "$ref" in field:
        return field["$ref"].rpartition("/")[2]
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "enum" in field:
        return ", ".join(f"`{json.dumps(value)}`" for value in field["enum"])
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_type(each) for each in field["anyOf"]))
    kind = field.get("type", "any")
    if kind == "array":
        items = field.get("items") or (field.get("prefixItems") or [{}])[0]
        return f"list of {_type(items)}"
    if kind == "object" and isinstance(field.get("additionalProperties"), dict):
        return f"object of {_type(field['additionalProperties'])}"
    if kind == "string" and "pattern" in field:
        return "exponent" if "[0-9]" in field["pattern"] else "text"
    return {"string": "text", "null": "null", "integer": "whole number"}.get(kind, str(kind))
