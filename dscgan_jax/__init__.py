"""Perfusion maps (CBF, CBV, MTT, Tmax, TTP) from DSC-MRI series with conditional GANs. Research use only."""

__version__ = "0.1.0"
