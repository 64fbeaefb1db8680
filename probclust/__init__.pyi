from . import data as data
from . import metrics as metrics
from . import models as models

__version__: str
