"""Deep anomaly detection on PyTorch Lightning: the methods of five papers, in Python, on the command line and for
scikit-learn.

The public names are listed in `__init__.pyi`, and are imported when they are first used: this module costs nothing.

    import adlightning as ad

    data = ad.OneVsAll(ad.Digits(), normal_class=3)
    run = ad.fit(ad.DeepSVDD(), data, max_epochs=5)
    run.metrics["auroc"], run.scores, run.detector
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
