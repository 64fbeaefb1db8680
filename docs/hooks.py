"""What the documentation takes from the code: a page for each story, and lists of the parts that have names.

`mkdocs.yml` names this file. A page stories/NAME.md that is written by hand takes the place of the one made here.
"""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = """# {name}

::: probclust.models.{module}
    options:
      members: [{name}]
      show_root_heading: false
      show_root_toc_entry: false
"""
PART = """::: {path}
    options: {{ heading_level: 3, members: false }}

By name: `"{name}"`."""
OF_THE_ROOT = {"developer/contributing.md": "CONTRIBUTING.md", "developer/security.md": "SECURITY.md"}
MARK = re.compile(r"^<!-- all (\w+) of (probclust[\w.]*) -->$", re.MULTILINE)
"""`<!-- all priors_by_name of probclust.priors.named -->`: a heading and a docstring for each class of that table."""


def stories() -> dict[str, str]:
    """The story classes by their module's name, as `probclust.models` lists them."""
    stub = ast.parse((ROOT / "models" / "__init__.pyi").read_text(encoding="utf-8"))
    return {str(node.module): node.names[0].name for node in stub.body if isinstance(node, ast.ImportFrom)}


def pages() -> list[str]:
    """The stories' pages in the order of the navigation."""
    return [f"stories/{module}.md" for module in sorted(stories(), key=lambda module: stories()[module].lower())]


def listed(table: str, module: str) -> str:
    """Directives for the classes of a table by name, each once; those of a part's own room are left to its page."""
    classes = getattr(importlib.import_module(module), table)()
    room = ".".join(module.split(".")[:2])
    own = {
        cls: name
        for name, cls in classes.items()
        if cls.__module__.startswith(f"{room}.") and "dissimilarities" not in cls.__module__
    }
    return "\n\n".join(PART.format(path=f"{cls.__module__}.{cls.__qualname__}", name=name) for cls, name in own.items())


def of_the_root(source: str) -> str:
    """A page of the repository's root, with the links that it has there turned to the documentation's own pages."""
    text = (ROOT / source).read_text(encoding="utf-8")
    return text.replace("](docs/", "](../").replace("](CHANGELOG.md)", "](../changelog.md)")


def on_config(config: Any) -> Any:
    """Put the stories' pages into the navigation."""
    for section in config.nav:
        if "Stories" in section:
            section["Stories"] = ["stories/index.md", *pages()]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages of stories that have none of their own, and those of the repository's root."""
    from mkdocs.structure.files import File

    for module, name in stories().items():
        path = f"stories/{module}.md"
        if files.get_file_from_path(path) is None:
            files.append(File.generated(config, path, content=PAGE.format(name=name, module=module)))
    for path, source in OF_THE_ROOT.items():
        files.append(File.generated(config, path, content=of_the_root(source)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in the lists."""
    return MARK.sub(lambda found: listed(*found.groups()), markdown)
