"""What there is one of for each viewer: made when it is first asked for, and forgotten with the viewer. No Qt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")


def real_viewer(viewer: Any) -> Any:
    """Return the viewer behind the proxy that napari gives to plugins.

    napari makes a new proxy each time. Its layers are proxies, too: they differ from the layers of events, and weak
    references to them do not last.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer itself, or the proxy that napari gives to plugins.

    Returns
    -------
    object
    """
    return getattr(viewer, "__wrapped__", viewer)


class PerViewer(Generic[T]):
    """One object for each viewer.

    Parameters
    ----------
    make : callable
        Makes the object for a viewer.
    """

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self._made: WeakKeyDictionary[Any, T] = WeakKeyDictionary()

    def of(self, viewer: Any) -> T:
        """Return the object of a viewer.

        Parameters
        ----------
        viewer : napari.viewer.Viewer
            The viewer itself, or the proxy that napari gives to plugins.

        Returns
        -------
        T
        """
        real = real_viewer(viewer)
        if real not in self._made:
            self._made[real] = self._make(real)
        return self._made[real]
