"""Refuses a public API that shows a type or trait of a dependency which is not on the list.

Reads rustdoc's JSON. A dependency whose types our users see cannot be updated without breaking them, so each is a
decision: it stands here with the reason.
"""

import json
import pathlib
import sys

STANDARD = {"std", "core", "alloc"}
OURS = {"eap_types", "eap_core", "eap_client", "eap_agent_sdk", "eap_orchestrator"}
# What users of each library may meet, beside the standard library and ours.
ALLOWED = {
    # Reading, writing and describing payloads is what the crate is for.
    "eap_types": {"serde", "serde_core", "schemars"},
    "eap_core": {"serde", "serde_core"},
    # Requests and replies of `HttpCall`, which hosts and simulations implement.
    "eap_client": {"http", "bytes", "async_trait", "futures_core"},
    "eap_agent_sdk": {"serde", "serde_core", "tokio_util", "http", "bytes"},
    # The router of a host, its listener, and configuration from files.
    "eap_orchestrator": {"axum", "axum_core", "serde", "serde_core", "http", "bytes", "tokio_util", "tower_service"},
}


def named(node):
    """The ids of every type and trait that a piece of the description names."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("resolved_path", "trait_", "trait") and isinstance(value, dict) and "id" in value:
                yield value["id"]
            yield from named(value)
    elif isinstance(node, list):
        for value in node:
            yield from named(value)


def is_blanket(item):
    """Whether it is an impl that every type has, written by somebody else."""
    impl = item["inner"].get("impl")
    return impl is not None and (impl.get("blanket_impl") is not None or impl.get("is_synthetic"))


def foreign(description, library):
    """The dependencies that the public items of a library name, each with one place."""
    crates, paths = description["external_crates"], description["paths"]
    found = {}
    for item in description["index"].values():
        if item["crate_id"] != 0 or is_blanket(item):
            continue
        for target in named(item["inner"]):
            path = paths.get(str(target))
            if path is None or path["crate_id"] == 0:
                continue
            crate = crates[str(path["crate_id"])]["name"]
            if crate not in STANDARD | OURS | ALLOWED[library]:
                found.setdefault(crate, f"{'::'.join(path['path'])} in {item.get('name') or 'an impl'}")
    return found


def main(folder):
    bad = 0
    for library in sorted(ALLOWED):
        description = json.loads((pathlib.Path(folder) / f"{library}.json").read_text())
        for crate, place in sorted(foreign(description, library).items()):
            print(f"{library} shows {crate}: {place}", file=sys.stderr)
            bad += 1
    if bad:
        sys.exit("list the dependency in .ci/public_api.py with the reason, or keep it behind a type of ours")
    print("no type of an unlisted dependency is in a public API")


main(sys.argv[1])
