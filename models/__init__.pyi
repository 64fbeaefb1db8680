from .damic import DAMIC as DAMIC
from .dissimilarity_mixture import DissimilarityMixture as DissimilarityMixture
from .gaussian_mixture import GaussianMixture as GaussianMixture
from .mixture_of_vaes import MixtureOfVAEs as MixtureOfVAEs
from .vade import VaDE as VaDE
