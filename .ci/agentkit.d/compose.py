"""What compose.yaml and the Dockerfiles name is there, since CI builds no image: `compose.py FOLDER-OF-BINARIES`."""

import glob
import json
import os
import re
import subprocess
import sys

from expect import all_held, expect


def read(path):
    with open(path) as file:
        return file.read()


def dockerfile(path):
    """It builds a member of the workspace, copies what is there, and starts a binary of that member."""
    lines = [line.split() for line in read(path).splitlines() if line and not line.startswith("#")]
    crates = [crate for line in lines for option, crate in zip(line, line[1:]) if option == "-p"]
    expect(f"the crates of {path}", [True], [os.path.isfile(f"{crate}/Cargo.toml") for crate in crates])
    sources = [line[-2] for line in lines if line[0] == "COPY"]
    built = [os.path.basename(source) for source in sources if source.startswith("/src/target/release/")]
    expect(f"the binaries of {path}", re.findall(r'\[\[bin\]\]\nname = "(.+)"', read(f"{crates[0]}/Cargo.toml")), built)
    expect(f"what {path} starts", [json.dumps(built)], [line[1] for line in lines if line[0] == "ENTRYPOINT"])
    missing = [source for source in sources if not source.startswith("/") and not os.path.exists(source)]
    expect(f"what {path} copies and is not there", [], missing)
    return built[0]


def service(name, text, binaries):
    """Its command knows each option and each variable that it is given."""
    binary = dockerfile(re.search(r"dockerfile: (\S+)", text)[1])
    words = json.loads(re.search(r"command: (\[.*?\])\n", text, re.S)[1])
    first = next(place for place, word in enumerate(words) if word.startswith("--"))
    own = words[first:words.index("--") if "--" in words else None]
    given = [word for word in own if word.startswith("--")] + re.findall(r"^      ([A-Z_]+):", text, re.M)
    told = subprocess.run([os.path.join(binaries, binary), *words[:first], "--help"], capture_output=True, text=True)
    known = set(re.findall(r"--[a-z][a-z-]*|[A-Z_]{6,}", told.stdout))
    expect(f"what {name} is given and `{binary}` does not know", [], [word for word in given if word not in known])


def main(binaries):
    compose = read("compose.yaml")
    services = re.split(r"^  ([\w-]+):$", re.search(r"^services:\n(.*?)^\w", compose, re.M | re.S)[1], flags=re.M)[1:]
    for name, text in zip(services[::2], services[1::2]):
        # Images of others are theirs to know.
        if "dockerfile:" in text:
            service(name, text, binaries)
    used = re.findall(r"dockerfile: (\S+)", compose)
    expect("the Dockerfiles that compose.yaml uses", sorted(glob.glob("docker/*.Dockerfile")), sorted(set(used)))
    asked = re.findall(r"\$\{(\w+)", compose) + re.findall(r"^    environment: (\w+)$", compose, re.M)
    known = re.findall(r"^(\w+)=", read("docker/example.env"), re.M)
    expect("the variables of docker/example.env", set(asked), set(known))
    sys.exit(0 if all_held("compose.yaml") else 1)


main(sys.argv[1])
