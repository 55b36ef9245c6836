"""What a Rust type refuses, its schema refuses too: refusals.py SCHEMAS CASES, of `broken_payloads` in tests/src/bin."""

import json
import re
import sys
from collections import Counter
from pathlib import Path

import jsonschema
from jsonschema import Draft202012Validator
from rfc3339_validator import validate_rfc3339

# What the type refuses and the schema language cannot say, or not plainly: (end of the place, change, why).
EXCEPTIONS = [
    (r"(/(agent_id|agentId|name|(preferred_)?agents/\d+|(added|changed|removed)/\d+)|/(workflow|workflowDefinition|task|nextTask)Id|/workflow_id"
     r"|(^|/workflowDefinition|/workflows/\d+)/id)", r'" " (first|last)', "white space at an end, which each language names otherwise"),
    (r"(_at|/timestamp)", r'".*|an? .*text', "a time is read in several forms, and no format says which"),
    (r"/(input|input_data)", "null", "there are two spellings, and one of them has to be there"),
    (r"/data/(routing/\w+|attempts_used)", "null", "a callback, which only this server writes, has no null"),
    (r"/content", r'".*|a text', "base64, if `encoding` says so"),
    (r"/(endpoint_url|callback_url|contactEndpoint)", r'".*|an? .*text', "which URLs are called is a policy; the schema says that it is a URI"),
    (r"/(metadata|task_schemas)/.*", "the longest text .*", "a length in bytes of the whole"),
]


def pattern(validator, expression, instance, schema):
    """The end of a text is its end: for Python `$` also stands before a last line break, for ECMA-262 it does not."""
    if validator.is_type(instance, "string") and not re.search(re.sub(r"\$$", r"\\Z", expression), instance):
        yield jsonschema.ValidationError(f"{instance!r} does not match {expression!r}")


def is_time(text):
    """As RFC 3339 has it; the line break is another one of Python's `$`."""
    return validate_rfc3339(text) and not text.endswith("\n")


def main(schemas, cases):
    kind = jsonschema.validators.extend(Draft202012Validator, {"pattern": pattern})
    formats = jsonschema.FormatChecker(["uuid"])
    formats.checks("date-time")(lambda value: not isinstance(value, str) or is_time(value))
    errors = []
    validators, counts, used = {}, Counter(), Counter()
    for line in cases.open(encoding="utf-8"):
        case = json.loads(line)
        name, place, change = case["payload"], case["place"], case["change"]
        if name not in validators:
            schema = json.loads((schemas / f"{name}.json").read_text(encoding="utf-8"))
            validators[name] = kind(schema, format_checker=formats)
        is_valid = validators[name].is_valid(case["value"])
        if case["taken"]:
            # A reply's schema says what is written, and a query's what is sent, which is less than what is read.
            if case["decoded"] and not is_valid:
                errors.append(f"{name}{place}: {change}: the type takes it, the schema does not")
            continue
        counts[name] += 1
        if not is_valid:
            continue
        excused = next((why for where, what, why in EXCEPTIONS if re.search(f"{where}$", place) and re.fullmatch(what, change)), None)
        if excused is None:
            errors.append(f"{name}{place}: {change}: the type refuses it, the schema does not")
        used[excused] += 1
    errors += [f"no schema needs this exception any more: {why}" for _, _, why in EXCEPTIONS if not used[why]]
    errors += [f"nothing was tried with {path.name}" for path in sorted(schemas.glob("*.json"))
               if path.stem not in ("openapi", "asyncapi") and not counts[path.stem]]
    for error in errors:
        print(error, file=sys.stderr)
    print(f"{sum(counts.values())} broken values refused by {len(counts)} types and their schemas, {len(EXCEPTIONS)} kinds excepted")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
