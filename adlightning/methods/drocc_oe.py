"""DROCC-OE: DROCC with outlier exposure (Goyal et al. 2020, Section 4; docs/methods/drocc_oe.md)."""

from __future__ import annotations

from adlightning.methods.drocc import DROCC


class DROCCOE(DROCC):
    """DROCC-OE: DROCC on the normal samples, and the cross-entropy of known anomalies.

    Its arguments are those of :class:`DROCC`; training data without a known anomaly are refused.
    """

    uses_known_anomalies = True
    needs_known_anomalies = True
