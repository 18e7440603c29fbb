#!/usr/bin/python3
"""Holds an OCI layout against the JSON schemas of the image specification: schemas.py SCHEMAS LAYOUT."""
import json
import pathlib
import sys

import jsonschema

# Nobody is asked for it: the schemas refer to each other by file name.
HOME = "file:///schemas/"


def without_ids(schema):
    """Takes out the names that would have references looked up elsewhere."""
    if isinstance(schema, dict):
        return {key: without_ids(value) for key, value in schema.items() if key != "id" or not isinstance(value, str)}
    return [without_ids(item) for item in schema] if isinstance(schema, list) else schema


schemas, layout = map(pathlib.Path, sys.argv[1:])
known = {HOME + path.name: without_ids(json.loads(path.read_text())) for path in schemas.glob("*.json")}


def judge(kind: str, document):
    schema = known[HOME + kind]
    resolver = jsonschema.RefResolver(base_uri=HOME + kind, referrer=schema, store=known)
    jsonschema.Draft4Validator(schema, resolver=resolver).validate(document)
    print(kind)
    return document


def blob(descriptor):
    return json.loads((layout / "blobs" / descriptor["digest"].replace(":", "/")).read_text())


judge("image-layout-schema.json", json.loads((layout / "oci-layout").read_text()))
index = judge("image-index-schema.json", json.loads((layout / "index.json").read_text()))
for descriptor in index["manifests"]:
    manifest = judge("image-manifest-schema.json", blob(descriptor))
    judge("config-schema.json", blob(manifest["config"]))
