"""Prints every feature of every published library, and none at all: `package feature`, one a line."""

import json
import subprocess

metadata = json.loads(subprocess.check_output(["cargo", "metadata", "--format-version", "1", "--no-deps", "--locked"]))
for package in metadata["packages"]:
    # Those with an empty list of registries are not published.
    if package["publish"] == [] or not any("lib" in target["kind"] for target in package["targets"]):
        continue
    features = [name for name in sorted(package["features"]) if name != "default"]
    for feature in ["", *features]:
        print(package["name"], feature)
