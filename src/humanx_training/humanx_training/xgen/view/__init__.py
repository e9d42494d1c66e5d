"""A viewer and editor of clips in the browser."""

from humanx_training.xgen.view.server import serve

__all__ = ['serve']
