"""Definitions of fields that are read from records, and of inputs of plain values."""

from collections.abc import Callable, Mapping
from functools import partial
from operator import attrgetter
from typing import Any, TypeVar

import strawberry
from strawberry import UNSET
from strawberry.types import get_object_definition, has_object_definition
from strawberry.types.base import StrawberryList, StrawberryOptional
from strawberry.utils.str_converters import to_camel_case

from app.domain.validation import normalized_code
from app.graphql.columnar import ColumnarField
from app.graphql.schema.scalars import Quantity

T = TypeVar("T")


def read_from(path: str, description: str, graphql_type: Any = None) -> Any:  # noqa: ANN401
    """Define a field whose value is read by a dotted path, such as `record.sku`."""
    get = attrgetter(path)

    def read(self: Any):  # type: ignore[no-untyped-def]  # noqa: ANN202, ANN401 - as declared
        return get(self)

    return strawberry.field(
        resolver=read,
        description=description,
        graphql_type=graphql_type,
        metadata=ColumnarField(path).metadata,
    )


def object_from(path: str, make: Callable[[Any], object], description: str) -> Any:  # noqa: ANN401
    """Define a field whose object is made from the record at a path; null without a record."""
    get = attrgetter(path)

    def read(self: Any):  # type: ignore[no-untyped-def]  # noqa: ANN202, ANN401 - as declared
        record = get(self)
        return None if record is None else make(record)

    return strawberry.field(
        resolver=read, description=description, metadata=ColumnarField(path, make).metadata
    )


def objects_from(path: str, make: Callable[[Any], object], description: str) -> Any:  # noqa: ANN401
    """Define a list field whose objects are made from the records at a path; null without any."""
    get = attrgetter(path)

    def read(self: Any):  # type: ignore[no-untyped-def]  # noqa: ANN202, ANN401 - as declared
        records = get(self)
        return None if records is None else [make(record) for record in records]

    return strawberry.field(
        resolver=read, description=description, metadata=ColumnarField(path, make).metadata
    )


def quantity_from(path: str, description: str) -> Any:  # noqa: ANN401
    """Define a `Quantity` field whose value is read by a path."""
    return read_from(path, description, Quantity)


def made_from(
    make: Callable[[Any], object],
    description: str,
    graphql_type: Any = None,  # noqa: ANN401
) -> Any:  # noqa: ANN401
    """Define a field that is computed from its object when it is selected."""
    return strawberry.field(resolver=make, description=description, graphql_type=graphql_type)


def described_field(description: str) -> Any:  # noqa: ANN401
    """Define a field that is an attribute of its object."""
    return strawberry.field(description=description)


def exactly_one(description: str) -> Any:  # noqa: ANN401
    """Define a field of an input of which exactly one field is given."""
    return strawberry.field(default=UNSET, description=description)


def given_fields(value: object) -> dict[str, Any]:
    """Fields of an input that the request contains."""
    return {name: field for name, field in vars(value).items() if field is not UNSET}


def optional(description: str) -> Any:  # noqa: ANN401
    """Define an input field whose default is null."""
    return strawberry.field(default=None, description=description)


def of_plain_values(input_type: type[T]) -> type[T]:
    """Build an input directly from its coerced values, which is fast for lists of hundreds.

    Strawberry converts each value by its type. Scalars and enums need no conversion. Inputs in a
    field, one or a list of them, must be inputs of plain values too. The field `sku`, a SKU code,
    is normalized.
    """
    definition = get_object_definition(input_type, strict=True)
    names = {to_camel_case(field.python_name): field.python_name for field in definition.fields}
    inputs: dict[str, Callable[[Any, Any], Any]] = {}
    for field in definition.fields:
        inner: Any = field.type
        while hasattr(inner, "of_type"):
            inner = inner.of_type
        if not has_object_definition(inner):
            continue
        make: Any = get_object_definition(inner, strict=True).from_input
        if make is None:
            message = f"{input_type.__name__}.{field.python_name} must hold plain inputs."
            raise TypeError(message)
        convert = partial(make, inner)
        given = field.type.of_type if isinstance(field.type, StrawberryOptional) else field.type
        is_list = isinstance(given, StrawberryList)
        inputs[to_camel_case(field.python_name)] = _each(convert) if is_list else convert

    def from_values(type_: type[T], value: Mapping[str, Any], context: Any) -> T:  # noqa: ANN401
        fields = {names[name]: given for name, given in value.items()}
        if code := fields.get("sku"):
            fields["sku"] = normalized_code(code)
        for name, make in inputs.items():
            if value.get(name) is not None:
                fields[names[name]] = make(value[name], context)
        return type_(**fields)

    definition.from_input = from_values
    return input_type


def _each(convert: Callable[[Any, Any], Any]) -> Callable[[Any, Any], list[Any]]:
    return lambda items, context: [convert(item, context) for item in items]
