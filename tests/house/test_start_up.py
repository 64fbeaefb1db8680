"""Start-up: what a user waits for before anything is computed. Ratios of CPU time, the least of several processes."""

import re
import subprocess
import sys
from pathlib import Path

from benchmarks.speed.start_up import cpu_seconds


def loaded(program: str) -> set[str]:
    """Top-level packages that a program has imported."""
    program = f"{program}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_importing_probclust_costs_less_than_a_third_more_than_pyro():
    ours = min(cpu_seconds(["-c", "import probclust"]) for _ in range(3))
    assert ours < 1.3 * cpu_seconds(["-c", "import pyro"])


def test_importing_probclust_loads_no_heavy_package():
    heavy = {"torch", "pyro", "numpy", "pandas", "sklearn", "scipy", "arviz", "matplotlib", "lightning_fabric"}
    assert not heavy & loaded("import probclust; dir(probclust)")


def test_help_takes_less_than_half_a_second_of_cpu_time():
    assert min(cpu_seconds(["-m", "probclust", "--help"]) for _ in range(3)) < 0.5


def test_stories_are_listed_in_less_than_a_second_of_cpu_time_without_torch():
    assert min(cpu_seconds(["-m", "probclust", "stories"]) for _ in range(3)) < 1
    assert "torch" not in loaded(
        "import probclust.cli.main\ntry: probclust.cli.main.main(['stories'])\nexcept SystemExit: pass"
    )


def test_documented_modules_exist_right_after_the_import():
    pages = (Path(__file__).parents[2] / "docs" / "reference").glob("*.md")
    modules = {name for page in pages for name in re.findall(r"::: probclust\.(\w+)", page.read_text(encoding="utf-8"))}
    modules |= {"networks", "distributions", "errors", "story", "testing"}
    program = (
        f"import probclust\nfor name in {sorted(modules)}: getattr(probclust, name); assert name in dir(probclust)"
    )
    subprocess.run([sys.executable, "-c", program], timeout=60, check=True)
