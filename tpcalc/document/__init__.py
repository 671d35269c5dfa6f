"""The versioned JSON documents that commands print and files hold.

A document is a typed model (pydantic's), from which its JSON Schema is generated: ``tpcalc schema table``, and the
files in ``schemas/``.  Models are imported when a document is made or read.
"""

from __future__ import annotations

import json
from pkgutil import resolve_name
from typing import Any

#: Documents that have a schema -> their models.
DOCUMENTS = {
    "table": "tpcalc.document.table:TableDocument",
    "scales": "tpcalc.document.scaled:ScaledTableDocument",
    "multipliers": "tpcalc.document.multipliers:MultipliersDocument",
    "scaled-multipliers": "tpcalc.document.multipliers:ScaledMultipliersDocument",
    "verify": "tpcalc.document.verify:VerifyDocument",
    "check": "tpcalc.document.check:CheckDocument",
    "scaled-check": "tpcalc.document.check:ScaledCheckDocument",
    "transfer": "tpcalc.document.transfer:TransferDocument",
    "recipe": "tpcalc.document.recipe:RecipeDocument",
    "drawing": "tpcalc.document.drawing:DrawingDocument",
    "page": "tpcalc.document.page:PageDocument",
}


def json_text(document: Any) -> str:
    """Readable JSON text, keys in the order given; refuses NaN and infinities."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema of a document, generated from its model."""
    from tpcalc.document.model import SchemaText

    model = resolve_name(DOCUMENTS[name])
    return {"$schema": SchemaText.schema_dialect, **model.model_json_schema(schema_generator=SchemaText)}
