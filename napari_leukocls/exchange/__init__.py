"""Models in from other programs' files, and out as ONNX, as BioImage.IO packages or as folders."""

from napari_leukocls.exchange.exporting import export_model
from napari_leukocls.exchange.importing import ImportSettings, import_model

__all__ = ["ImportSettings", "export_model", "import_model"]
