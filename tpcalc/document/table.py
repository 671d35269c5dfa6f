"""The scaling table as JSON: a documented, versioned schema shared by tables and ``multipliers.json``.

``schema.json`` beside this file is its JSON Schema.  Every parameter stands under its own full name, tied
ones included; exponents are text (``"1/2"``), multipliers are numbers and null in a table, whose
``scale`` has no base and target.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any, Optional

from tpcalc.algebra.order import order_text
from tpcalc.derive.result import Parametrization, Rule, Site, SliceRule

SCHEMA = "tpcalc/1"


def table_json(parametrization: Parametrization) -> dict[str, Any]:
    """The document; a caller with exact numbers fills ``scale`` and, for each weight, all that is null."""
    return {
        "schema": SCHEMA,
        "optimizer": parametrization.optimizer,
        "gauge": parametrization.gauge,
        "parametrization": parametrization.parametrization,
        "alignment": parametrization.alignment,
        "scale": {"symbol": parametrization.symbol, "base": None, "target": None},
        "weights": [weight_json(name, rule) for name, rule in parametrization.rules.items()],
        "clipping": {
            "norm": order_text(parametrization.clipping.norm),
            "dominated_by": list(parametrization.clipping.dominated_by),
        },
        "sites": [_site_json(site) for site in parametrization.sites],
        "assumptions": list(parametrization.assumptions),
        "notes": list(parametrization.notes),
        "conventions": list(parametrization.conventions),
    }


def weight_json(name: str, rule: Rule) -> dict[str, Any]:
    """The entry of one parameter; ``name`` may be an alias of a tied weight."""
    return {
        "name": name,
        "shape": [str(size) for size in rule.shape],
        "role": rule.role,
        "a": order_text(rule.a),
        "b": order_text(rule.b),
        "c": order_text(rule.c),
        "weight_decay": order_text(rule.weight_decay),
        "eps": _optional(rule.eps),
        "A": order_text(rule.A),
        "C": order_text(rule.C),
        "gradient": order_text(rule.gradient),
        "trainable": rule.trainable,
        "tied_to": None if name == rule.name else rule.name,
        "aliases": [other for other in (rule.name, *rule.aliases) if other != name],
        "reason": rule.reason,
        "slices": [_slice_json(piece) for piece in rule.slices],
        "optimizer": rule.optimizer or None,
        "shape_at": {"base": None, "target": None},
        "init_law": None,
        "init_std": {"base": None, "target": None, "code_at_target": None},
        "init_mean": {"base": None, "target": None, "code_at_target": None},
        "multipliers": {"init": None, "lr": None, "weight_decay": None, "eps": None, "clip": None, "forward": None},
    }


def json_text(document: Any) -> str:
    """Readable JSON text, keys in the order given; refuses NaN and infinities."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def load_schema() -> dict[str, Any]:
    """The JSON Schema of the documents, as packaged."""
    return json.loads(files("tpcalc.document").joinpath("schema.json").read_text(encoding="utf-8"))


def _optional(exponent) -> Optional[str]:
    return None if exponent is None else order_text(exponent)


def _slice_json(piece: SliceRule) -> dict[str, Any]:
    return {
        "dim": piece.dim,
        "start": str(piece.start),
        "length": str(piece.length),
        "role": piece.role,
        "A": order_text(piece.A),
        "C": order_text(piece.C),
        "b": _optional(piece.b),
        "c": _optional(piece.c),
        "start_at": {"base": None, "target": None},
        "length_at": {"base": None, "target": None},
        "init_std": {"base": None, "target": None, "code_at_target": None},
        "init_mean": {"base": None, "target": None, "code_at_target": None},
        "multipliers": {"init": None},
    }


def _site_json(site: Site) -> dict[str, Any]:
    return {
        "op": site.op,
        "module": site.module,
        "source": site.source,
        "found": order_text(site.found),
        "needed": order_text(site.needed),
        "message": site.message,
    }
