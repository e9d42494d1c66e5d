"""One module per source; :func:`humanx_training.xgen.extract.detect.extract` picks by content."""
