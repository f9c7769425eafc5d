"""The HTTP interface as an OpenAPI 3.1 document, made from the descriptors: routes from google.api.http, schemas from
the messages, texts from the comments."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from google.api import annotations_pb2
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from imageflow.v1 import catalog_pb2, execution_service_pb2, pipeline_pb2, stored_image_pb2, system_pb2
from imageflow_common.descriptors import own_descriptors

Json = dict[str, Any]

_FILES = (pipeline_pb2, execution_service_pb2, stored_image_pb2, catalog_pb2, system_pb2)
_HTTP_BODY = "google.api.HttpBody"
_BYTES: Json = {"type": "string", "format": "binary"}
_WELL_KNOWN: dict[str, Json] = {
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.Value": {},
    "google.protobuf.Duration": {"type": "string", "examples": ["1.5s"]},
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    _HTTP_BODY: _BYTES,
}
_SCALARS: dict[int, Json] = {
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "format": "byte"},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.TYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptor.TYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.TYPE_UINT32: {"type": "integer", "minimum": 0},
    FieldDescriptor.TYPE_INT64: {"type": "string", "format": "int64"},
    FieldDescriptor.TYPE_UINT64: {"type": "string", "format": "uint64"},
}
_JSON_BODY = 15
"""The number of the field `body` where it is the request as JSON, and no image."""
_ERROR: Json = {
    "type": "object",
    "properties": {
        "code": {"type": "integer", "description": "The gRPC status code."},
        "message": {"type": "string"},
        "details": {"type": "array", "items": {"type": "object"}},
    },
}


def openapi_document(version: str) -> str:
    """The document as JSON."""
    writer = _Writer()
    paths: Json = {}
    for method in _methods():
        for rule in _rules(method):
            verb, pattern = _served(rule)
            path = re.sub(r"=\*\*", "", pattern)
            paths.setdefault(path, {})[verb] = writer.operation(method, rule, path)
    document = {
        "openapi": "3.1.0",
        "info": {"title": "ImageFlowCanvas", "version": version, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {"schemas": {"Error": _ERROR, **writer.schemas}},
    }
    return json.dumps(document)


class _Writer:
    """Writes operations and collects the schemas that they refer to."""

    def __init__(self) -> None:
        self.schemas: Json = {}

    def operation(self, method: MethodDescriptor, rule: HttpRule, path: str) -> Json:
        in_path = set(re.findall(r"{(\w+)}", path))
        operation: Json = {
            "operationId": method.name + ("" if rule == next(_rules(method)) else "WithoutKey"),
            "tags": [method.containing_service.name],
            "summary": _comment(method.full_name),
            "parameters": [*self._parameters(method.input_type, in_path, rule.body)],
            "responses": {
                "200": {"description": "OK", "content": self._response(method, rule)},
                "default": {"description": "An error", "content": {"application/json": {"schema": _ref("Error")}}},
            },
        }
        if rule.body:
            operation["requestBody"] = self._body(method)
        return operation

    def _parameters(self, message: Descriptor, in_path: set[str], body: str) -> Iterator[Json]:
        for field in message.fields:
            if field.name in in_path:
                yield {**self._parameter(field), "in": "path", "required": True, "name": field.name}
            elif field.name != body and field.message_type is None:
                yield {**self._parameter(field), "in": "query", "name": field.json_name}

    def _parameter(self, field: FieldDescriptor) -> Json:
        return {"schema": self._field(field), "description": _comment(field.full_name)}

    def _body(self, method: MethodDescriptor) -> Json:
        """Raw bytes where the method takes an image; else the request itself as JSON (a definition, to store one),
        which may be left out where every field may."""
        message = method.input_type
        if message.fields_by_name["body"].number != _JSON_BODY:
            return {"required": True, "content": {"image/*": {"schema": _BYTES}}}
        required = "pipeline" in message.fields_by_name
        described = message.fields_by_name["pipeline"].message_type if method.name == "CreatePipeline" else message
        return {"required": required, "content": {"application/json": {"schema": self._message(described)}}}

    def _response(self, method: MethodDescriptor, rule: HttpRule) -> Json:
        if method.output_type.full_name == _HTTP_BODY:
            return {"application/json" if method.name == "GetOpenApi" else "*/*": {"schema": _BYTES}}
        message: Descriptor | None = method.output_type
        if rule.response_body:
            message = method.output_type.fields_by_name[rule.response_body].message_type
        if method.server_streaming:
            return {
                "application/x-ndjson": {"schema": self._message(message)},
                "text/event-stream": {"schema": {"type": "string", "contentSchema": self._message(message)}},
            }
        return {"application/json": {"schema": self._message(message)}}

    def _message(self, message: Descriptor | None) -> Json:
        assert message is not None, "a field that is no message"
        if message.full_name in _WELL_KNOWN:
            return _WELL_KNOWN[message.full_name]
        if message.name not in self.schemas:
            self.schemas[message.name] = {}
            self.schemas[message.name] = {
                "type": "object",
                "description": _comment(message.full_name),
                "properties": {
                    field.json_name: {**self._field(field), "description": _comment(field.full_name)}
                    for field in message.fields
                    if field.message_type is None or field.message_type.full_name != _HTTP_BODY
                },
            }
        return _ref(message.name)

    def _field(self, field: FieldDescriptor) -> Json:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            return {"type": "object", "additionalProperties": self._single(field.message_type.fields_by_name["value"])}
        single = self._single(field)
        return {"type": "array", "items": single} if field.is_repeated else single

    def _single(self, field: FieldDescriptor) -> Json:
        if field.message_type is not None:
            return self._message(field.message_type)
        if field.enum_type is not None:
            return {"type": "string", "enum": [value.name for value in field.enum_type.values]}
        return _SCALARS[field.type]


def _methods() -> Iterator[MethodDescriptor]:
    for file in _FILES:
        for service in file.DESCRIPTOR.services_by_name.values():
            yield from service.methods


def _rules(method: MethodDescriptor) -> Iterator[HttpRule]:
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    if rule.WhichOneof("pattern"):
        yield rule
        yield from rule.additional_bindings


def _served(rule: HttpRule) -> tuple[str, str]:
    """HTTP's method, in lower case, and the pattern of paths."""
    if rule.HasField("custom"):
        return rule.custom.kind.lower(), rule.custom.path
    verb = rule.WhichOneof("pattern") or "get"
    return verb, getattr(rule, verb)


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


@cache
def _comment(full_name: str) -> str:
    return own_descriptors().comments.get(full_name, "")
