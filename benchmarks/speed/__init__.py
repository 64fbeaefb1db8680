"""Speed against a hand-written loop, ClustPy, scikit-learn and the matrix products alone: time, memory, slopes."""
