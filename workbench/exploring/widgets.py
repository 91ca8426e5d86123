"""Controls for the views, as ipywidgets."""

from collections.abc import Callable
from typing import Any

from IPython.display import Image, display
from ipywidgets import Dropdown, FloatSlider, IntSlider, Text, Widget, interactive

from workbench.exploring import views
from workbench.exploring.committed import settings, titles
from workbench.reporting.words import display_name

FILLS = ("mean", "uniform", "constant")
RANKINGS = ("least salient first", "most salient first", "at random")


def comparison() -> Widget:
    """Two methods beside each other on a test image."""
    return _controls(views.compare, setting=_setting(), **_methods(), image=IntSlider(1, 0, 9))


def masks() -> Widget:
    """A mask of any size, and what the network answers then."""
    return _controls(
        views.masked,
        setting=_setting(),
        method=_method("method", "smoot"),
        image=IntSlider(1, 0, 9),
        pixels=FloatSlider(0.2, min=0, max=1, step=0.05),
        ranking=Dropdown(options=RANKINGS),
        fill=Dropdown(options=FILLS),
    )


def shares() -> Widget:
    """How many images the generalisation gap masks."""
    return _controls(
        views.drawn,
        setting=_setting(),
        training_loss=FloatSlider(0.3, min=0.05, max=2, step=0.05, description="training"),
        held_out_loss=FloatSlider(0.5, min=0.05, max=2, step=0.05, description="held out"),
        pixels=FloatSlider(0.2, min=0, max=1, step=0.05),
    )


def own(file: str) -> Widget:
    """Two methods beside each other on an image of one's own."""
    path = Text(file, continuous_update=False, layout={"width": "50em"})
    return _controls(views.compare_own, setting=_setting(), **_methods(), file=path)


def _controls(view: Callable[..., Image], **controls: Widget) -> Widget:
    """The view below its controls, drawn anew when one of them moves; a wrong value is said in its place."""

    def shown(**values: Any) -> None:
        try:
            display(view(**values))  # type: ignore[no-untyped-call]
        except (ValueError, FileNotFoundError) as error:
            print(error)

    for control in controls.values():
        if isinstance(control, FloatSlider | IntSlider):
            control.continuous_update = False
    return interactive(shown, **controls)


def _setting() -> Dropdown:
    named = {" on ".join(display_name(part) for part in reversed(name.split("-"))): name for name in settings()}
    return Dropdown(options=named, value="fashion_mnist-two_conv_small", layout={"width": "30em"})


def _methods() -> dict[str, Dropdown]:
    return {"first": _method("left", "plain"), "second": _method("right", "smoot")}


def _method(label: str, value: str) -> Dropdown:
    return Dropdown(options=titles(), value=value, description=label)
