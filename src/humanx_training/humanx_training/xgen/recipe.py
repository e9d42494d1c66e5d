"""The ``xgen`` section of a skill file: from which motion, with which contacts, flights and variations clips are
made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from humanx_description.config import from_mapping
from humanx_description.errors import UserError
from humanx_description.objects import ObjectSpec
from humanx_description.skills import Skill

Range = tuple[float, float]


@dataclass(frozen=True)
class Source:
    """A piece of a motion file or video. ``file`` is relative to the data folder unless absolute.

    ``start`` and ``end`` (s) cut it; ``reverse`` plays it backward (a pass becomes a catch); ``back`` plays it forward
    and then backward (a shot becomes a feint). ``hold`` (s) is how long the last pose is kept.
    """

    file: str
    why: str = ''  # one line: what is in it and why it was chosen
    start: float = 0.0
    end: float | None = None
    reverse: bool = False
    back: bool = False
    hold: float = 0.0

    def __post_init__(self) -> None:
        if self.start < 0 or (self.end is not None and self.end <= self.start):
            raise ValueError(
                f'start {self.start} and end {self.end} do not make an interval; expected 0 <= start < end.'
            )
        if self.hold < 0:
            raise ValueError(f'hold is {self.hold} s; expected 0 or more.')


@dataclass(frozen=True)
class ContactSpec:
    """One contact phase, in seconds of the source (all pieces in a row, before stance is added).

    ``hold``: the object keeps its pose relative to ``anchor`` from ``start`` to ``end`` (``None``: to the end of the
    clip). ``strike``: ``anchor`` hits it once, at its highest speed between ``start`` and ``end``, for ``duration``
    seconds. ``bodies`` touch it and are refined (default: both hands for ``palms``, else the anchor). ``offset`` (m,
    anchor frame) is the object's place; without it the object is put where it just touches. ``upright`` keeps the
    object level: it and the ``offset`` follow the heading of the anchor only (x ahead, z up).
    """

    anchor: str
    kind: Literal['hold', 'strike'] = 'hold'
    start: float = 0.0
    end: float | None = None
    duration: float = 0.02
    bodies: tuple[str, ...] = ()
    offset: tuple[float, float, float] | None = None
    turn: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)  # object orientation in the anchor frame
    upright: bool = False
    side: Literal['palm', 'below', 'above'] = 'palm'  # of a single hand, where the object touches it without `offset`
    from_stance: bool = False  # a hold that lasts through the stance before the motion
    move_waist: bool = False  # refine the waist too

    def __post_init__(self) -> None:
        if self.end is not None and self.end <= self.start:
            raise ValueError(f'contact end is {self.end}; expected it after start {self.start}.')
        if self.start < 0:
            raise ValueError(f'contact start is {self.start} s; expected 0 or more.')
        if self.duration <= 0:
            raise ValueError(f'contact duration is {self.duration} s; expected above 0.')
        if not any(self.turn):
            raise ValueError(f'contact turn is {list(self.turn)}; expected a quaternion, w first.')


@dataclass(frozen=True)
class Arrival:
    """How the object comes to the first contact.

    ``rest``: it lies (on the floor with ``on_floor``) or is held out to the robot where the contact begins. ``flight``
    and ``roll``: it arrives at ``speed`` (m/s) from the side that the robot faces (a strike: from where it strikes to),
    turned by ``azimuth_deg``, falling at ``fall_deg`` below the horizontal, after ``duration`` s under way; before that
    it is held.
    """

    kind: Literal['rest', 'flight', 'roll'] = 'rest'
    on_floor: bool = False
    speed: float = 3.0
    azimuth_deg: float = 0.0
    fall_deg: float = 20.0
    duration: float = 0.6

    def __post_init__(self) -> None:
        for name in ('speed', 'duration'):
            if getattr(self, name) <= 0:
                raise ValueError(f'arrival {name} is {getattr(self, name)}; expected above 0.')


@dataclass(frozen=True)
class Release:
    """How the object leaves the last contact.

    ``keep``: it does not. ``anchor``: with the velocity that the contact gave it. ``target``: through ``target`` (m; x
    ahead and y left as the robot faces at the release, counted from the object (``from_release``) or the pelvis; z
    above the floor) with the path's ``apex`` (m) or horizontal ``speed`` (neither: as slowly as can be). ``strike``:
    along the strike, at ``speed`` (default: what the impact gives), turned by ``azimuth_deg`` and raised by
    ``rise_deg``. ``velocity``: with ``velocity`` (m/s; x ahead, y left, z up). ``place``: it stays where it is put
    (``on_floor``).
    """

    kind: Literal['keep', 'anchor', 'target', 'strike', 'velocity', 'place'] = 'keep'
    target: tuple[float, float, float] = (0.0, 0.0, 0.0)
    from_release: bool = True
    apex: float | None = None
    speed: float | None = None
    velocity: tuple[float, float, float] = (0.0, 0.0, 0.0)
    azimuth_deg: float = 0.0
    rise_deg: float = 0.0
    on_floor: bool = False
    duration: float = 1.0
    max_change: float = 2.0  # m/s: the largest change of velocity that re-solving the throw may ask of the arms

    def __post_init__(self) -> None:
        if self.kind == 'target' and self.apex is not None and self.speed is not None:
            raise ValueError('release to a target has both apex and speed; expected at most one.')
        if self.duration <= 0:
            raise ValueError(f'release duration is {self.duration} s; expected above 0.')


@dataclass(frozen=True)
class Augment:
    """What varies from clip to clip: ranges of uniform draws (the nominal value is 0 or 1)."""

    size: Range = (1.0, 1.0)  # factor on the object's size
    # Other objects (fields as in `objects`) that take the main one's place, each as often as it; `size` scales them.
    replace: tuple[ObjectSpec, ...] = ()
    offset: tuple[Range, Range, Range] = ((0.0, 0.0),) * 3  # m, translation of the contact path, heading frame
    path_scale: Range = (1.0, 1.0)  # factor on the contact path about its start
    arrival_speed: Range = (1.0, 1.0)  # factor
    arrival_azimuth_deg: Range = (0.0, 0.0)
    arrival_fall_deg: Range = (0.0, 0.0)
    release_speed: Range = (1.0, 1.0)  # factor
    release_azimuth_deg: Range = (0.0, 0.0)
    target: tuple[Range, Range, Range] = ((0.0, 0.0),) * 3  # m, added to the release target
    start_region: float = 0.0  # m, radius of the half-circle ahead in which the object may lie; the robot walks there

    def __post_init__(self) -> None:
        for name in ('size', 'path_scale', 'arrival_speed', 'release_speed'):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f'augment.{name} is {[low, high]}; expected two ascending positive factors.')
        for spare in self.replace:
            if spare.fixed:
                raise ValueError(f'augment.replace: {spare.name!r} is fixed; expected an object that moves.')


@dataclass(frozen=True)
class Recipe:
    """The whole section."""

    sources: tuple[Source, ...]
    contacts: tuple[ContactSpec, ...]
    arrival: Arrival = field(default_factory=Arrival)
    release: Release = field(default_factory=Release)
    augment: Augment = field(default_factory=Augment)
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)  # m, heading frame, moves the contact path
    stance: float = 0.6  # s of statically balanced stance before and after
    join: float = 0.08  # s over which a catch or a throw is joined to the flight
    time_scale: float = 1.0  # plays the motion this much slower
    # Wrists straight: for a tool in the hand of somebody whose wrists the source does not show.
    still_wrists: bool = False
    fps: float = 100.0

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError('sources is empty; expected at least one motion.')
        if not 20 <= self.fps <= 1000:
            raise ValueError(f'fps is {self.fps:g}; expected 20 to 1000 frames per second.')
        if not 0.1 <= self.time_scale <= 10:
            raise ValueError(f'time_scale is {self.time_scale:g}; expected 0.1 to 10.')
        if self.stance < 0 or self.join <= 0:
            raise ValueError(f'stance is {self.stance:g} s and join {self.join:g} s; expected 0 or more, and above 0.')
        if not self.contacts:
            raise ValueError('contacts is empty; expected at least one contact phase.')
        for before, after in zip(self.contacts, self.contacts[1:]):
            if before.end is None or after.start < before.end:
                raise ValueError('contacts overlap; expected ascending, separate intervals.')


def recipe_of(skill: Skill, where: str) -> Recipe:
    """Return the skill's ``xgen`` section; raises :class:`UserError` naming the file and the field."""
    if not skill.xgen:
        raise UserError(f'{where}: has no section xgen; expected one that names sources and contacts.')
    if skill.main_object is None:
        raise UserError(f'{where}: scenario.object names no object; XGen makes clips of a robot with an object.')
    return from_mapping(Recipe, skill.xgen, f'{where}: xgen')
