"""Makes a story, prior, likelihood, objective or start, with its test, from the skeletons beside this file.

`make story NAME=TopicMixture` runs it; it needs nothing but Python.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SKELETONS = Path(__file__).parent / "skeletons"
PLACES = {
    "story": ("models", "tests/models"),
    "prior": ("probclust/priors", "tests/priors"),
    "likelihood": ("probclust/likelihoods", "tests/likelihoods"),
    "objective": ("probclust/objectives", "tests/objectives"),
    "start": ("probclust/starts", "tests/starts"),
}
NEXT = {
    "story": "make install (for its name in the command line), then write model and guide: docs/contract.md",
    "prior": "write the density; stories take it by its `name` already",
    "likelihood": "write the density; stories take it by its `name` already",
    "objective": "write the bound; pc.fit takes it by its `name` already",
    "start": "write what finds the clusters; recipes take it by its name already",
}


def spellings(name: str) -> tuple[str, str, str]:
    """TopicMixture, topic_mixture and topic-mixture, from any of the three.

    Raises:
        ValueError: the name is no name.
    """
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip()).replace("-", "_")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*", words):
        raise ValueError(f"NAME must be a name such as TopicMixture or topic_mixture, got {name!r}")
    camel = "".join(word[:1].upper() + word[1:] for word in words.split("_"))
    return camel, words.lower(), words.lower().replace("_", "-")


def make(kind: str, name: str) -> list[Path]:
    """Write the files of a new `kind`, and the lines that make it known; the paths touched.

    Raises:
        ValueError: there is no such kind, or the name is no name.
        FileExistsError: there is one already.
    """
    if kind not in PLACES:
        raise ValueError(f"expected one of {', '.join(PLACES)}, got {kind!r}")
    camel, snake, kebab = spellings(name)
    folder, tests = (ROOT / place for place in PLACES[kind])
    files = {folder / f"{snake}.py": f"{kind}.py", tests / f"test_{snake}.py": f"test_{kind}.py"}
    for path in files:
        if path.exists():
            raise FileExistsError(f"{path.relative_to(ROOT)} is there already; choose another NAME")
    for path, skeleton in files.items():
        text = (SKELETONS / skeleton).read_text(encoding="utf-8")
        for old, new in ((f"My{kind.title()}", camel), (f"my_{kind}", snake), (f"my-{kind}", kebab)):
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")
    return [*files, *(_announce(camel, snake, kebab) if kind == "story" else [])]


def _announce(camel: str, snake: str, kebab: str) -> list[Path]:
    """A story's line in the stub of `probclust.models`, and its entry point."""
    stub, project = ROOT / "models" / "__init__.pyi", ROOT / "pyproject.toml"
    lines = [*stub.read_text(encoding="utf-8").splitlines(), f"from .{snake} import {camel} as {camel}"]
    stub.write_text("\n".join(sorted(lines)) + "\n", encoding="utf-8")
    head = '[project.entry-points."probclust.stories"]\n'
    text = project.read_text(encoding="utf-8")
    if text.count(head) != 1:
        raise ValueError(f"{project} has no table {head.strip()}")
    project.write_text(text.replace(head, f'{head}{kebab} = "probclust.models:{camel}"\n'), encoding="utf-8")
    return [stub, project]


def main() -> None:
    """Read kind and name, and say what was made and what is next."""
    if len(sys.argv) != 3 or not sys.argv[2]:
        raise SystemExit("usage: make story|prior|likelihood|objective|start NAME=TopicMixture")
    kind, name = sys.argv[1:]
    try:
        touched = make(kind, name)
    except (ValueError, FileExistsError) as error:
        raise SystemExit(str(error)) from None
    for path in touched:
        print(path.relative_to(ROOT))
    tests = next(path for path in touched if path.name.startswith("test_"))
    print(f"\nNext: {NEXT[kind]};\nmake test ARGS={tests.relative_to(ROOT)}; a line in CHANGELOG.md.")


if __name__ == "__main__":
    main()
