"""The papers' own numbers (ACC, in percent where they print percent), for the table beside ours."""

from __future__ import annotations

PUBLISHED: dict[tuple[str, str], str] = {
    ("usps", "IDEC"): "0.761 (Guo and others, 2017, table 2)",
    ("usps", "DEC"): "0.741 (Guo and others, 2017, table 2)",
    ("usps", "AE + k-means"): "0.693 (Guo and others, 2017, table 2)",
    ("usps", "k-means"): "0.668 (Guo and others, 2017, table 2)",
    ("har", "MixtureOfVAEs"): "0.907 (all of HHAR; k-DVAE, table 2)",
    ("har", "VaDE"): "0.845 (all of HHAR; k-DVAE, table 2)",
    ("har", "k-DAE"): "0.873 (all of HHAR; k-DVAE, table 2)",
    ("har", "AE + GMM"): "0.777 (all of HHAR; k-DVAE, table 2)",
    ("mnist-10k", "MixtureOfVAEs"): "0.979 (70,000 images; k-DVAE, table 2)",
    ("mnist-10k", "VaDE"): "0.944 (70,000 images; Jiang and others, 2017)",
    ("mnist-10k", "k-DAE"): "0.965 (70,000 images; k-DVAE, table 2)",
    ("mnist-10k", "AE + GMM"): "0.822 (70,000 images; k-DVAE, table 2)",
    ("mnist-10k", "DMAE"): "0.984 (70,000 images, augmented; DMAE, table 1)",
    ("mnist-10k", "DAMIC"): "0.77 (70,000 images; DAMIC, table 3)",
    ("mnist-10k", "DCN"): "0.83 (70,000 images; DAMIC, table 3)",
    ("mnist-10k", "DEC"): "0.866 (70,000 images; Guo and others, 2017)",
    ("mnist-10k", "IDEC"): "0.881 (70,000 images; Guo and others, 2017)",
    ("mnist-10k", "AE + k-means"): "0.818 (70,000 images; Guo and others, 2017)",
    ("mnist-10k", "k-means"): "0.532 (70,000 images; Guo and others, 2017)",
}
