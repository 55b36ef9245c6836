"""Checks schemas/ with validators that know nothing of ours: validate.py SCHEMAS FIXTURES CATALOGUE."""

import json
import sys
from pathlib import Path

from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def examples(catalogue):
    """The fixtures of each payload, as `eap schema` lists them."""
    rows = (line.split() for line in catalogue.read_text(encoding="utf-8").splitlines()[1:])
    return {name: fixtures for name, role, *fixtures in rows if role != "document"}


def broken(schema, value):
    """The value with each required member taken out, and of another type, one at a time."""
    for name in schema.get("required", []):
        yield f"without {name}", {key: member for key, member in value.items() if key != name}
    for name, member in value.items():
        # What may be any JSON, as the result of a session, has no other type.
        is_anything = schema.get("properties", {}).get(name, {"type": ""}).keys() <= {"description"}
        if name in schema.get("required", []) and member is not None and not is_anything:
            # Not a text: some members are a list or a text.
            wrong = [[[]]] if not isinstance(member, list) else 7
            yield f"{name} of another type", {**value, name: wrong}


def main(schemas, fixtures, catalogue):
    errors = [str(error) for error in OpenAPIV31SpecValidator(read(schemas / "openapi.json")).iter_errors()]
    checked, refused, seen = 0, 0, set()
    for name, names in examples(catalogue).items():
        schema = read(schemas / f"{name}.json")
        Draft202012Validator.check_schema(schema)
        validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
        for fixture in names:
            value = read(fixtures / f"{fixture}.json")
            seen.add(f"{fixture}.json")
            checked += 1
            errors += [f"{fixture}: {error.json_path}: {error.message}" for error in validator.iter_errors(value)]
            for change, wrong in broken(schema, value):
                refused += 1
                if validator.is_valid(wrong):
                    errors.append(f"{fixture} {change} is accepted by {name}.json")
    missed = {path.name for path in fixtures.glob("*.json")} - seen
    errors += [f"{fixture} belongs to no payload" for fixture in sorted(missed)]
    if refused < 50:
        errors.append(f"only {refused} broken fixtures were tried")
    for error in errors:
        print(error, file=sys.stderr)
    print(f"openapi.json, {len(examples(catalogue))} schemas, {checked} fixtures, {refused} broken ones refused")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
