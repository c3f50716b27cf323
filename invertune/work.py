"""How much of a model a method uses, known before it runs: what a plan multiplies with its cost."""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace


@dataclass(frozen=True)
class Work:
    """Images and texts that go through a model.

    Attributes:
        forward: Images that are encoded, without a gradient.
        back: Images forth, and back to their pixels; the weights have no gradient.
        trained: Images forth, and back to the weights of the image tower.
        texts: Texts that are encoded, without a gradient.
        texts_trained: Texts forth, and back to the weights of the text tower.
        steps: Optimizer steps that change a model's weights.
        prompts: Class names that are encoded, without a gradient: a text each for every template.
    """

    forward: float = 0
    back: float = 0
    trained: float = 0
    texts: float = 0
    texts_trained: float = 0
    steps: float = 0
    prompts: float = 0

    @classmethod
    def of_pairs(cls, steps: int, pairs: int) -> Work:
        """Return the work of a training of both towers, by steps of so many pairs each."""
        return cls(trained=steps * pairs, texts_trained=steps * pairs, steps=steps)

    def __add__(self, other: Work) -> Work:
        """Return the work of both."""
        return Work(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def templated(self, templates: int) -> Work:
        """Return the same with the texts that its prompts are, of so many templates."""
        return replace(self, texts=self.texts + self.prompts * templates, prompts=0)

    def __mul__(self, times: float) -> Work:
        """Return the work done so many times."""
        return Work(*(times * one for one in astuple(self)))
