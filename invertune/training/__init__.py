"""Training: recipes, optimizers, and the one loop that uses them."""

from invertune.training.recipe import Recipe
from invertune.training.train import train

__all__ = ["Recipe", "train"]
