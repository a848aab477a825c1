"""Shader programs are kept where a processor draws instead of a graphics card.

After a program was deleted, Mesa's software renderers (llvmpipe, softpipe) end the process at the next picture: seen in
napari 0.9.2 alone, with vispy 0.17, when an image and a labels layer are removed. A program is a few kilobytes,
and a closed layer leaves one behind; its textures and buffers are freed as ever.
"""

from __future__ import annotations

from typing import Any

from vispy.gloo import gl
from vispy.gloo.glir import GlirProgram

_RENDERERS = ("llvmpipe", "softpipe", "swrast", "software")

_delete = GlirProgram.delete


def is_software(renderer: str) -> bool:
    """Tell whether a processor draws.

    Parameters
    ----------
    renderer : str
        Name of the renderer, as OpenGL gives it.

    Returns
    -------
    bool
    """
    return any(name in renderer.lower() for name in _RENDERERS)


def _delete_with_care(program: Any) -> None:
    # vispy deletes while the context of the program is the current one.
    if not is_software(str(gl.glGetParameter(gl.GL_RENDERER))):
        _delete(program)


def keep_programs() -> None:
    """Keep the programs of closed layers where a processor draws; with a graphics card they are freed as usual."""
    GlirProgram.delete = _delete_with_care
