"""Training: recipes, optimizers, and the one loop that uses them."""

from invertune.training.objective import Batch, Objective
from invertune.training.recipe import Recipe
from invertune.training.train import train

__all__ = ["Batch", "Objective", "Recipe", "train"]
