"""Perturbations of images: their forms, what optimizes them, and what they become."""

from invertune.perturb.advclip import AdvCLIPGenerator
from invertune.perturb.advclip_patch import PatchTraining
from invertune.perturb.augment import Augmentation
from invertune.perturb.families import Family, Overlay, SmoothMask, SmoothOffset, SmoothWarp
from invertune.perturb.forms import FixedPatch, Form, FreeMask, LowFrequency, MaskedPattern, Pixels
from invertune.perturb.perturber import Generator, Perturber
from invertune.perturb.probes import Probe
from invertune.perturb.raw import RawPerturbation
from invertune.perturb.shrink import Effort, Shrinking
from invertune.perturb.triggers import InvertedTrigger

__all__ = [
    "AdvCLIPGenerator",
    "Augmentation",
    "Effort",
    "Family",
    "FixedPatch",
    "Form",
    "FreeMask",
    "Generator",
    "InvertedTrigger",
    "LowFrequency",
    "MaskedPattern",
    "Overlay",
    "PatchTraining",
    "Perturber",
    "Pixels",
    "Probe",
    "RawPerturbation",
    "Shrinking",
    "SmoothMask",
    "SmoothOffset",
    "SmoothWarp",
]
