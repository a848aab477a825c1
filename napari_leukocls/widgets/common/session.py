"""The state that the docks of one viewer share: slides, models and the reviewer. No Qt."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_leukocls.config import AnalyzeConfig
from napari_leukocls.errors import ModelError
from napari_leukocls.models.registry import ModelEntry, active_classifier, list_models
from napari_leukocls.scheme import Scheme, default_scheme
from napari_leukocls.widgets.common import preferences
from napari_leukocls.widgets.common.case_model import CaseModel, Field
from napari_leukocls.widgets.common.per_viewer import PerViewer
from napari_leukocls.widgets.texts import Analyse

if TYPE_CHECKING:
    from napari_leukocls.analysis.engine import Engine
    from napari_leukocls.review import ReviewStore
    from napari_leukocls.widgets.common.slide_model import SlideModel
    from napari_leukocls.widgets.common.training_run import TrainingRun


class Session:
    """The state that the docks of one viewer share, with signals for its changes.

    Attributes
    ----------
    cases : list of CaseModel
        The slides that are open, in the order in which they were opened.
    case : CaseModel or None
        The slide that the docks show: its fields are counted together.
    current : SlideModel or None
        The field of the slide that the canvas shows.
    reviewer : str
        Name that is stored with corrections.
    depth : str
        How finely classes are shown and counted: ``classes`` or ``fine``.
    """

    case_changed = Signal(object)
    cases_changed = Signal()
    slide_changed = Signal(object)
    models_changed = Signal()
    reviewer_changed = Signal(str)
    blind_changed = Signal(bool)
    depth_changed = Signal(str)
    analyse_wanted = Signal()

    def __init__(self) -> None:
        self.cases: list[CaseModel] = []
        self.case: CaseModel | None = None
        self.current: SlideModel | None = None
        self.reviewer = preferences.reviewer()
        self.depth = preferences.depth()
        #: Whether a blind second read is open, which hides the classes.
        self.blind = False
        #: The learner whose proficiency round is shown; "" while none is. Its slides must not be seen meanwhile.
        self.learner = ""
        #: Opens the next slide of a batch, and returns whether there is one.
        self.next_of_batch: Callable[[], bool] | None = None
        #: The training that runs or ran last.
        self.training: TrainingRun | None = None
        self.scheme: Scheme = default_scheme()
        #: Held by the thread that uses the networks: only one may at a time.
        self.networks = threading.Lock()
        self._store: ReviewStore | None = None
        self._store_lock = threading.Lock()

    def show(self, slide: SlideModel | None) -> None:
        """Show a field in all docks, and the case that it belongs to. A field without a case becomes one.

        Parameters
        ----------
        slide : SlideModel or None
        """
        if slide is None:
            self.show_case(None)
            return
        slide.set_depth(self.depth)
        case = next((one for one in self.cases if one.field_of(slide) is not None), None)
        if case is None:
            case = self.new_case(slide.slide_id)
            case.fields.append(Field(slide.slide_id))
            case.set_slide(case.fields[0], slide)
        changed = slide is not self.current
        self.current = slide
        self.show_case(case)
        if changed:
            self.slide_changed.emit(slide)

    def show_field(self, slide: SlideModel | None) -> None:
        """Show another field of the case; None for one that is not analysed yet.

        Parameters
        ----------
        slide : SlideModel or None
        """
        if slide is not None:
            slide.set_depth(self.depth)
        if slide is not self.current:
            self.current = slide
            self.slide_changed.emit(slide)

    def new_case(self, name: str) -> CaseModel:
        """Make a case without fields.

        Parameters
        ----------
        name : str
            Of the slide.

        Returns
        -------
        CaseModel
        """
        case = CaseModel(name, lambda: self.store, self.scheme)
        self.cases.append(case)
        self.cases_changed.emit()
        return case

    def drop_case(self, case: CaseModel) -> None:
        """Close a case.

        Parameters
        ----------
        case : CaseModel
        """
        self.cases.remove(case)
        self.cases_changed.emit()

    def show_case(self, case: CaseModel | None) -> None:
        """Show a case in all docks.

        Parameters
        ----------
        case : CaseModel or None
        """
        if case is self.case:
            return
        self.case = case
        kept = case is not None and case.field_of(self.current) is not None
        if not kept:
            self.current = None
        self.case_changed.emit(case)
        if not kept:
            self.slide_changed.emit(None)

    def set_reviewer(self, name: str) -> None:
        """Set the name that is stored with corrections.

        Parameters
        ----------
        name : str
        """
        name = name.strip()
        if name != self.reviewer:
            self.reviewer = name
            preferences.keep_reviewer(name)
            self.reviewer_changed.emit(name)

    def set_depth(self, depth: str) -> None:
        """Set how finely classes are shown and counted, on all slides.

        Parameters
        ----------
        depth : {"classes", "fine"}
        """
        if depth != self.depth:
            self.depth = depth
            preferences.keep_depth(depth)
            for case in self.cases:
                if case.analysed:
                    case.set_depth(depth)
            self.depth_changed.emit(depth)

    def set_blind(self, blind: bool) -> None:
        """Start or end the blind mode of a second read.

        Parameters
        ----------
        blind : bool
            Whether classes are hidden.
        """
        if blind != self.blind:
            self.blind = blind
            self.blind_changed.emit(blind)

    def engine(self, config: AnalyzeConfig) -> Engine:
        """Return the loaded models of a configuration. Only a thread that holds `networks` may call it.

        Parameters
        ----------
        config : AnalyzeConfig

        Returns
        -------
        Engine

        Raises
        ------
        ModelError, DeviceError
            If a model is missing or damaged, or the device is not available.
        """
        from napari_leukocls.analysis.engine import load_engine

        return load_engine(config)

    @property
    def store(self) -> ReviewStore:
        """The review store, opened when it is first needed."""
        from napari_leukocls.review import open_store

        with self._store_lock:
            if self._store is None:
                self._store = open_store()
            return self._store


_sessions: PerViewer[Session] = PerViewer(lambda _: Session())


def session_of(viewer: Any) -> Session:
    """Return the session of a viewer, and create it if needed.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer itself, or the proxy that napari gives to plugins.

    Returns
    -------
    Session
    """
    return _sessions.of(viewer)


def classifiers() -> list[ModelEntry]:
    """Return the models that classify leukocytes; the active one is the first."""
    active = active_classifier()
    shapes = set(default_scheme().shapes())
    found = [entry for entry in list_models() if set(_card(entry).get("classes", ())) - shapes]
    return sorted(found, key=lambda entry: (entry.name != active, entry.name))


def segmenters() -> list[str]:
    """Return the names of the segmenters; the bundled one is the first."""
    from napari_leukocls.segmentation.base import CELLPOSE_NAMES

    return [*Analyse.SEGMENTERS, *CELLPOSE_NAMES]


def _card(entry: ModelEntry) -> dict[str, Any]:
    try:
        return entry.card()
    except ModelError:
        # A damaged model is left out; `leukocls models list` shows what is wrong with it.
        return {}
