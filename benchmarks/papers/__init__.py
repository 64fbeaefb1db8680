"""The papers' tables on real data: every method, over seeds, one JSON record for each run."""
