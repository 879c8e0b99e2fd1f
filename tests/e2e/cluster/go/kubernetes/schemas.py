"""Turns Kubernetes' OpenAPI description into the JSON schemas that kubeconform reads.

usage: schemas.py swagger.json FOLDER

Strict: a field that the API does not know is an error. Kubeconform's own schemas come from the internet.
"""

import json
import sys
from pathlib import Path

QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
TYPES = {"int-or-string": ["string", "integer"], "quantity": ["string", "number"]}


def schema(node: dict) -> dict:
    """Returns the JSON schema of one OpenAPI node, without unknown fields."""
    if "$ref" in node:
        return {"$ref": node["$ref"]}
    made = {word: node[word] for word in ("type", "required", "enum") if word in node}
    if node.get("format") in TYPES:
        made["type"] = TYPES[node["format"]]
    if "items" in node:
        made["items"] = schema(node["items"])
    if "additionalProperties" in node:
        made["additionalProperties"] = schema(node["additionalProperties"])
    if "properties" in node:
        made["properties"] = {name: optional(schema(value)) for name, value in node["properties"].items()}
        made["additionalProperties"] = False
    return made


def optional(made: dict) -> dict:
    """Returns a schema that also allows null, which the API server treats as a field that is not set."""
    return {**made, "type": [made["type"], "null"]} if isinstance(made.get("type"), str) else made


def main(swagger: Path, folder: Path) -> None:
    """Writes one file per kind, named as kubeconform expects, and one with all definitions."""
    definitions = json.loads(swagger.read_text())["definitions"]
    definitions[QUANTITY]["format"] = "quantity"
    folder.mkdir()
    made = {"definitions": {name: schema(definition) for name, definition in definitions.items()}}
    (folder / "_definitions.json").write_text(json.dumps(made))
    for name, definition in definitions.items():
        for kind in definition.get("x-kubernetes-group-version-kind", []):
            parts = [kind["kind"], kind["group"].split(".")[0], kind["version"]]
            file = "-".join(part for part in parts if part).lower() + ".json"
            (folder / file).write_text(json.dumps({"$ref": f"_definitions.json#/definitions/{name}"}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
