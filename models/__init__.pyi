from .damic import DAMIC as DAMIC
from .dec import DEC as DEC
from .dissimilarity_mixture import DissimilarityMixture as DissimilarityMixture
from .gaussian_mixture import GaussianMixture as GaussianMixture
from .gmvae import GMVAE as GMVAE
from .idec import IDEC as IDEC
from .mixture_of_vaes import MixtureOfVAEs as MixtureOfVAEs
from .vade import VaDE as VaDE
