"""Refuses a public API that shows a type or trait of a dependency which is not on the list.

Reads rustdoc's JSON. A dependency whose types our users see cannot be updated without breaking them, so each is a
decision: it stands here with the reason.
"""

import json
import pathlib
import sys

STANDARD = {"std", "core", "alloc"}
OURS = {"eap_types", "eap_core", "eap_client", "eap_agent_sdk", "eap_orchestrator", "mock_agentkit"}
# What users of each library may meet, beside the standard library and ours.
ALLOWED = {
    # Reading, writing and describing payloads is what the crate is for; a JSON Schema is given as a JSON value.
    "eap_types": {"serde_core", "serde_json", "schemars"},
    "eap_core": {"serde_core"},
    # Requests and replies of `HttpCall`, which hosts and simulations implement; tokio's traits of a connection for the one
    # that a WebSocket takes over.
    "eap_client": {"http", "bytes", "tokio"},
    # What a handler takes and gives, a JSON value and the schema of its input among it; its cancellation; tokio's
    # channel to watch an agent; and the router that a pushed agent is mounted with.
    "eap_agent_sdk": {"serde_core", "serde_json", "schemars", "tokio", "tokio_util", "axum"},
    # The router of a host, its listener, the calls it may make itself, and configuration from files; and what a host
    # hands to the PostgreSQL store of its own: its pool of connections, and a transaction to write tasks in.
    "eap_orchestrator": {"axum", "serde_core", "http", "bytes", "sqlx_postgres"},
    # Faults and what was sent, as its control reads and writes them.
    "mock_agentkit": {"serde_core"},
}


def named(node):
    """The ids of every type and trait that a piece of the description names."""
    if isinstance(node, dict):
        for key, value in node.items():
            # Types, traits of bounds and impls, and what is exported again.
            if key in ("resolved_path", "trait", "use") and isinstance(value, dict) and value.get("id") is not None:
                yield value["id"]
            yield from named(value)
    elif isinstance(node, list):
        for value in node:
            yield from named(value)


def is_blanket(item):
    """Whether it is an impl that every type has, written by somebody else."""
    impl = item["inner"].get("impl")
    return impl is not None and (impl.get("blanket_impl") is not None or impl.get("is_synthetic"))


def shown(description):
    """The crates whose types and traits the public items of a library name, each with one place."""
    crates, paths = description["external_crates"], description["paths"]
    found = {}
    for item in description["index"].values():
        if item["crate_id"] != 0 or is_blanket(item):
            continue
        for target in named(item["inner"]):
            path = paths.get(str(target))
            if path is not None and path["crate_id"] != 0:
                crate = crates[str(path["crate_id"])]["name"]
                found.setdefault(crate, f"{'::'.join(path['path'])} in {item.get('name') or 'an impl'}")
    return found


def main(folder, *libraries):
    libraries = {library.replace("-", "_") for library in libraries}
    errors = [f"{library} has no line in .ci/public_api.py" for library in sorted(libraries - ALLOWED.keys())]
    for library, allowed in ALLOWED.items():
        found = shown(json.loads((pathlib.Path(folder) / f"{library}.json").read_text()))
        for crate in sorted(found.keys() - STANDARD - OURS - allowed):
            errors.append(f"{library} shows {crate}: {found[crate]}; list it in .ci/public_api.py with the reason, "
                          "or keep it behind a type of ours")
        # Also what tells when the format of the description has changed under this script.
        errors += [f"{library} does not show {crate}, and need not list it" for crate in sorted(allowed - found.keys())]
    if errors:
        sys.exit("\n".join(errors))
    print("no type of an unlisted dependency is in a public API")


main(*sys.argv[1:])
