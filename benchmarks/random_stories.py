"""Stories composed at random, each taken through every public function against its truth by brute force.

    python -m benchmarks.random_stories [--stories 2000] [--first 0] [--kept FILE]

The stories, their truth and what counts as right stand in tests/random_stories; seed n gives the same story as
in the slow test of tests/story/test_random_stories.py. A call comes out right, refused in the library's words, wrong,
or in a crash in Python's or torch's; the record counts each, and says why stories were refused and of what they were
made. It is benchmarks/results/random_stories.json; `--kept` names a file of one line for each story, from which a
run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from benchmarks.record import RESULTS, ROOT, append, read, write

FILE = RESULTS / "random_stories.json"
sys.path.insert(0, str(ROOT / "tests"))


def taken(seed: int) -> dict[str, Any]:
    """What became of one story: how many calls came out how, and the words of those that did not come out right."""
    from random_stories.breaches import breach
    from random_stories.plan import blocks, drawn_plan, random_pick
    from random_stories.walk import walk

    plan = drawn_plan(random_pick(seed))
    calls = [[o.call, o.status, "" if o.status == "right" else o.detail] for o in walk(plan)]
    broken = breach(plan)
    return {"seed": seed, "blocks": blocks(plan), "calls": calls, "breach": [broken.call, broken.status, broken.detail]}


def reason(words: str) -> str:
    """A refusal's words, with what differs between stories left out."""
    words = re.sub(r"^.*?site '[^']*'", "site '...'", words.splitlines()[0])
    return re.sub(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?", "#", words)[:160]


def summary(stories: list[dict[str, Any]]) -> dict[str, Any]:
    """The record's figures."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    reasons: defaultdict[str, Counter[str]] = defaultdict(Counter)
    breaches: defaultdict[str, Counter[str]] = defaultdict(Counter)
    found, worst = [], Counter()
    for story in stories:
        for call, status, words in story["calls"]:
            counts[call][status] += 1
            if status == "refused":
                reasons[call][reason(words)] += 1
            elif status != "right":
                found.append({"seed": story["seed"], "call": call, "status": status, "words": words[:400]})
        statuses = {status for _, status, _ in story["calls"]}
        worst[next(s for s in ("crash", "wrong", "refused", "right") if s in statuses)] += 1
        name, status, words = story["breach"]
        breaches[name][status] += 1
        if status != "right":
            found.append({"seed": story["seed"], "breach": name, "status": status, "words": words[:400]})
    return {
        "stories": len(stories),
        "worst of each story": dict(worst),
        "calls": {call: dict(counter) for call, counter in counts.items()},
        "refusals": {call: dict(counter.most_common()) for call, counter in reasons.items()},
        "breaches refused by name": {name: dict(counter) for name, counter in sorted(breaches.items())},
        "wrong or crashed": found,
        "blocks": dict(sorted(Counter(block for story in stories for block in story["blocks"]).items())),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stories", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="seed of the first")
    parser.add_argument("--kept", type=Path, help="file of finished stories, to go on from")
    parser.add_argument("--part", default="1/1", help="n/m: only every m-th story, the n-th on; nothing is recorded")
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    seeds = range(arguments.first, arguments.first + arguments.stories)
    kept = {story["seed"]: story for story in (read(arguments.kept) if arguments.kept else [])}
    number, of = map(int, arguments.part.split("/"))
    for seed in seeds:
        if seed in kept or seed % of != number % of:
            continue
        kept[seed] = taken(seed)
        if arguments.kept:
            append(arguments.kept, kept[seed])
        for call, status, words in kept[seed]["calls"]:
            if status in ("wrong", "crash"):
                print(seed, call, status, words[:300], flush=True)
    if of > 1:
        return
    figures = summary([kept[seed] for seed in seeds])
    write(FILE, "python -m benchmarks.random_stories", threads=1, **figures)
    print(json.dumps({name: figures[name] for name in ("worst of each story", "wrong or crashed")}, indent=1))


if __name__ == "__main__":
    main()
