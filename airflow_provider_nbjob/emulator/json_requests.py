"""Convert a request in JSON to its protobuf message, as strictly as Google's services do, and in their words.

They refuse names that are no field and values that are not of a field's type, and name all of them in one answer. The
texts are those of the converter that all of Google's APIs share, as far as they are publicly known. `json_format`
converts here. It names one fault at most, drops unknown enum names if it drops unknown fields, and accepts any text as
base64. So this module finds the faults before.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeGuard

from google.api_core.exceptions import InvalidArgument
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

# Brackets, braces and commas in a body. A job has some dozens, and a notebook in it is base64. Without this limit a
# body could become a hundred times its size, and keep the interpreter busy for seconds.
PARTS_MAX = 100_000
DEPTH_MAX = 100  # nested objects and lists, as in the service
FAULTS_MAX = 50  # in one answer
SHOWN_MAX = 200  # characters of a value in a message

# Query parameters of all methods of all of Google's APIs, with or without a dollar sign.
SYSTEM_PARAMETERS = frozenset(
    {
        *("access_token", "alt", "callback", "fields", "key", "oauth_token", "prettyPrint", "quotaUser"),
        *("upload_protocol", "uploadType", "userIp", ".xgafv"),
    }
)
# Fields that the service takes and v1 of google-cloud-aiplatform 2.7 does not know: `parameters`, which Google's
# JupyterLab plugin sends (scheduler-jupyter-plugin 0.1.8), those of v1beta1, and those of revision 20261106 of the
# discovery document. They have no effect here.
_ALSO_TAKEN = {
    "MachineSpec": {
        *("multihostGpuNodeCount", "multihost_gpu_node_count"),
        *("minGpuDriverVersion", "min_gpu_driver_version"),
    },
    "NotebookExecutionJob": {"parameters"},
    "CustomEnvironmentSpec": {"shieldedInstanceConfig", "shielded_instance_config"},
    "WorkbenchRuntime": {"vmImage", "vm_image", "customContainerImage", "custom_container_image"},
}

_BASE64 = re.compile(r"[A-Za-z0-9+/_\s-]*={0,2}\s*")
_INTEGER = re.compile(r"-?[0-9]{1,20}")
_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: range(-(2**31), 2**31),
    FieldDescriptor.CPPTYPE_UINT32: range(2**32),
    FieldDescriptor.CPPTYPE_INT64: range(-(2**63), 2**63),
    FieldDescriptor.CPPTYPE_UINT64: range(2**64),
}
_TYPES = {getattr(FieldDescriptor, name): name for name in dir(FieldDescriptor) if re.fullmatch("TYPE_[A-Z0-9]+", name)}
# The errors that `json_format` may raise. It documents ParseError only.
_REFUSALS = (json_format.ParseError, ValueError, TypeError, AttributeError, ArithmeticError, LookupError)


def load_json(body: bytes | bytearray) -> object:
    """Read a body as JSON; an empty one is an empty object.

    :raises InvalidArgument: if it is not JSON as RFC 8259 has it, has a key twice, has more than `PARTS_MAX` parts, or
        is more than `DEPTH_MAX` deep
    """
    if not body.strip():
        return {}
    if sum(body.count(part) for part in (b"[", b"{", b",")) > PARTS_MAX:
        raise _refusal(f"It has more than {PARTS_MAX} parts.")
    try:
        value = json.loads(body.decode(), parse_constant=_refuse_constant, object_pairs_hook=_object)
    except RecursionError:
        raise _refusal("Message too deep. Max recursion depth reached.") from None
    except UnicodeDecodeError:
        raise _refusal("It is not UTF-8.") from None
    except json.JSONDecodeError as error:
        raise _refusal(f"{error.msg} at line {error.lineno}, column {error.colno}.") from None
    except ValueError as error:  # from this module, or a number with more digits than Python takes
        raise _refusal(str(error)) from None
    _refuse_depth(value)
    return value


def _refusal(reason: str) -> InvalidArgument:
    return InvalidArgument(f"Invalid JSON payload received. {reason}")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"Unexpected token: {name}.")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f'The key "{_cut(twice)}" is there twice.')
    return made


def _refuse_depth(value: object) -> None:
    level = [value]
    for _ in range(DEPTH_MAX):
        level = [
            inner
            for each in level
            if isinstance(each, (dict, list))
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return
    raise _refusal("Message too deep. Max recursion depth reached.")


def parse_request(
    request_type: Callable[[], Message],
    body_field: str | None,
    in_path: Mapping[str, str],
    query: Sequence[tuple[str, str]],
    body: object,
) -> Message:
    """Return a request's protobuf message.

    :param body_field: the field of the request whose value is the body; ``"*"``: the body has the request's fields;
        None: there is no body
    :param in_path: the fields that are in the path
    :param query: names and values
    :param body: from `load_json`
    :raises InvalidArgument: with all faults
    """
    request = request_type()
    descriptor: Any = request.DESCRIPTOR  # types-protobuf names a class of the C extension too
    fields = _fields_of(descriptor)
    values = {fields[name].name: _converted(fields[name], text) for name, text in query if name in fields}
    faults = list(_query_faults(fields, {*in_path, body_field}, query))
    if not isinstance(body, dict):
        faults.append(_payload_fault('Unknown name ""', "Root element must be a message."))
    elif body_field in (None, "*"):
        faults += islice(_message_faults(body, descriptor if body_field else None, ""), FAULTS_MAX)
        values = {**body, **values}
    else:
        faults += islice(_message_faults(body, fields[body_field].message_type, body_field), FAULTS_MAX)
        values[body_field] = body
    if faults:
        raise InvalidArgument("\n".join(faults[:FAULTS_MAX]))
    try:
        # The unknown fields are those of `_ALSO_TAKEN`.
        return json_format.ParseDict({**values, **in_path}, request, ignore_unknown_fields=True)
    except (*_REFUSALS, RecursionError) as error:
        raise _refusal(_cut(str(error))) from None


def _fields_of(message: Descriptor) -> dict[str, FieldDescriptor]:
    return {name: field for field in message.fields for name in (field.json_name, field.name)}


def _converted(field: FieldDescriptor, text: str) -> object:
    """Return a value of the query as JSON has it: a boolean, or else the text."""
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return {"true": True, "false": False}.get(text, text)
    return text


def _query_faults(
    fields: Mapping[str, FieldDescriptor], bound: set[str | None], query: Sequence[tuple[str, str]]
) -> Iterator[str]:
    seen = set()
    for name, text in query:
        if name.removeprefix("$") in SYSTEM_PARAMETERS:
            continue
        field = fields.get(name)
        what = f'Unknown name "{_cut(name)}"'
        if field is None:
            reason = f"Cannot bind query parameter. Field '{_cut(name)}' could not be found in request message."
            yield _payload_fault(what, reason)
        elif field.name in bound:
            yield _payload_fault(what, "Cannot bind query parameter. The field is in the path, or is the body.")
        elif field.name in seen:
            yield _payload_fault(what, "Proto field is not repeating, cannot start list.")
        else:
            seen.add(field.name)
            yield from _value_faults(_converted(field, text), field, field.name)


def _message_faults(value: dict[str, object], message: Descriptor | None, path: str) -> Iterator[str]:
    """Yield the faults of an object.

    :param message: the type of the object; None: an object without fields
    :param path: the fields that lead to it
    """
    fields = _fields_of(message) if message else {}
    also = _ALSO_TAKEN.get(message.name, set()) if message else set()
    at = f" at '{path}'" if path else ""
    seen: set[str] = set()
    given: set[str] = set()  # those that are not null
    for key, inner in value.items():
        field = fields.get(key)
        what = f'Unknown name "{_cut(key)}"{at}'
        if field is None:
            if key not in also:
                yield _payload_fault(what, "Cannot find field.")
            continue
        if field.name in seen:
            yield _payload_fault(what, "The field is there twice, in camelCase and in snake_case.")
        seen.add(field.name)
        if inner is None:
            continue
        given.add(field.name)
        oneof = field.containing_oneof
        if oneof and any(other.name in given and other is not field for other in oneof.fields):
            reason = f"oneof field '{oneof.name}' is already set. Cannot set '{_cut(key)}'"
            yield f"Invalid value{at or ' '} (oneof), {reason}"
        yield from _field_faults(inner, field, f"{path}.{field.name}" if path else field.name, what)


def _field_faults(value: object, field: FieldDescriptor, path: str, what: str) -> Iterator[str]:
    """Yield the faults of the value of a field, which may be repeated or a map.

    :param what: names the field in a fault
    """
    if field.message_type and field.message_type.GetOptions().map_entry:
        if not isinstance(value, dict):
            yield _value_fault(path, "a map", value)
            return
        for key, inner in value.items():
            of_key = field.message_type.fields_by_name["key"]
            yield from _value_faults(key, of_key, f"{path}.key")
            yield from _value_faults(inner, field.message_type.fields_by_name["value"], f"{path}[{_cut(key)}]")
    elif _is_repeated(field):
        if not isinstance(value, list):
            yield _value_fault(path, "a list", value)
            return
        for index, inner in enumerate(value):
            yield from _value_faults(inner, field, f"{path}[{index}]")
    elif isinstance(value, list):
        yield _payload_fault(what, "Proto field is not repeating, cannot start list.")
    else:
        yield from _value_faults(value, field, path)


def _value_faults(value: object, field: FieldDescriptor, path: str) -> Iterator[str]:
    """Yield the faults of one value."""
    message = field.message_type
    if message and not message.full_name.startswith("google.protobuf."):
        if isinstance(value, dict):
            yield from _message_faults(value, message, path)
        else:
            yield _value_fault(path, f"type.googleapis.com/{message.full_name}", value)
    elif message:  # a type with a form of its own in JSON, such as a duration
        try:
            json_format.ParseDict(value, message_factory.GetMessageClass(message)())  # type: ignore[arg-type]
        except _REFUSALS:
            yield _value_fault(path, f"type.googleapis.com/{message.full_name}", value)
    elif field.enum_type:
        if not _is_enum(value, field.enum_type):
            yield _value_fault(path, f"type.googleapis.com/{field.enum_type.full_name}", value)
    elif not _is_scalar(value, field):
        yield _value_fault(path, _TYPES[field.type], value)


def _is_repeated(field: Any) -> bool:
    # protobuf 6.30 added `is_repeated`, and protobuf 7 has removed `label`.
    return bool(field.is_repeated if hasattr(field, "is_repeated") else field.label == FieldDescriptor.LABEL_REPEATED)


def _is_enum(value: object, enum: EnumDescriptor) -> bool:
    """Return whether a value is a name or a number of an enum; proto3 keeps numbers without a name."""
    if isinstance(value, str):
        names, numbers = enum.values_by_name, enum.values_by_number
        return value in names or (bool(_INTEGER.fullmatch(value)) and int(value) in numbers)
    return _is_integer(value) and int(value) in _INTEGERS[FieldDescriptor.CPPTYPE_INT32]


def _is_scalar(value: object, field: FieldDescriptor) -> bool:
    if field.type == FieldDescriptor.TYPE_STRING:
        return isinstance(value, str) and _is_unicode(value)
    if field.type == FieldDescriptor.TYPE_BYTES:
        text = value if isinstance(value, str) and _BASE64.fullmatch(value) else None
        return text is not None and len("".join(text.split()).rstrip("=")) % 4 != 1
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return isinstance(value, bool)
    if (numbers := _INTEGERS.get(field.cpp_type)) is not None:
        return (_is_integer(value) or (isinstance(value, str) and bool(_INTEGER.fullmatch(value)))) and (
            int(value) in numbers
        )
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_integer(value: object) -> TypeGuard[float]:
    if isinstance(value, float):
        return math.isfinite(value) and value.is_integer()
    return isinstance(value, int) and not isinstance(value, bool)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _payload_fault(what: str, reason: str) -> str:
    return f"Invalid JSON payload received. {what}: {reason}"


def _value_fault(path: str, kind: str, value: object) -> str:
    return f"Invalid value at '{path}' ({kind}), {_cut(json.dumps(value))}"


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}..."
