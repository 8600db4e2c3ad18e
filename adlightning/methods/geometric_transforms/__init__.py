"""GEOM: the detector, its 72 transforms of images, and the Dirichlet distributions of its score."""

from adlightning.methods.geometric_transforms.detector import GeometricTransforms

__all__ = ["GeometricTransforms"]
