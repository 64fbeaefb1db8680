from .building import new_story as new_story
from .fitting import fit as fit
from .record import FitRecord as FitRecord
