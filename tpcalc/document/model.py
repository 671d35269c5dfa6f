"""What all documents share: exact types, and how a model is made from results and written as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any, Optional, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from tpcalc.algebra.order import Order
from tpcalc.algebra.size import Size


def _exact_text(value: Any) -> Any:
    """Exact numbers of the calculus are written as text; nothing that JSON holds is one."""
    return str(value) if isinstance(value, (Fraction, Order, Size)) else value


Model = TypeVar("Model", bound="Row")
#: A size, an exact rational, and an order, which may be that of zero; as text.
SizeText = Annotated[str, BeforeValidator(_exact_text)]
Exponent = Annotated[str, Field(pattern=r"^-?[0-9]+(/[1-9][0-9]*)?$"), BeforeValidator(_exact_text)]
OrderText = Annotated[str, Field(pattern=r"^(-oo|-?[0-9]+(/[1-9][0-9]*)?)$"), BeforeValidator(_exact_text)]
Count = Annotated[int, Field(ge=0)]
Number = Optional[float]
T = TypeVar("T")
#: A list, made from the tuples that results hold.
Several = Annotated[list[T], Field(strict=False)]


class Row(BaseModel):
    """Plain data.  Nothing is converted on reading (no ``"4"`` to 4, no 4.0 to 4); unknown keys are let pass."""

    # built when first used: a command reads one or two of all these documents
    model_config = ConfigDict(
        strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True, defer_build=True
    )

    @classmethod
    def of(cls: type[Model], result: Any, **more: Any) -> Model:
        """From the attributes of a result, and ``more``, which come first."""
        return cls.model_validate({**vars(result), **more}, from_attributes=True)

    def data(self) -> dict[str, Any]:
        """As plain data, keys in the order of the fields."""
        return self.model_dump(by_alias=True)


@dataclass(frozen=True)
class OneOf:
    """Restricts text to names that another module defines."""

    names: tuple[str, ...]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.literal_schema(list(self.names))


class SchemaText(GenerateJsonSchema):
    """JSON Schema without a title for each field, which would repeat its name."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False
