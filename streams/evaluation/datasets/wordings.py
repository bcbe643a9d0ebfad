"""The words of the learnable streams: what notes say, and scenes with fields whose names tell which of them matter.

What held-out seeds draw from is used by no other seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

#: Notes by what they are about. No wording stands twice.
TUNED: Mapping[str, tuple[str, ...]] = {
    "filter change": (
        "new filter fitted",
        "filter replaced",
        "swapped the old filter for a fresh one",
        "put in a clean filter cartridge",
        "the clogged filter was taken out and renewed",
        "filter element exchanged",
        "fresh filter in place",
        "renewed the air filter",
    ),
    "door left open": (
        "door left open",
        "somebody forgot to close the gate",
        "the hall door stood wide open",
        "found the entrance unlocked and ajar",
        "loading door not shut",
        "gate was open all morning",
        "no one closed the side door",
        "the door did not close properly",
    ),
    "power cut": (
        "power cut for ten minutes",
        "electricity failed briefly",
        "blackout in the building",
        "mains supply was interrupted",
        "lost power during the shift",
        "short outage of the electric supply",
        "lights and machines went off",
        "grid failure, generator started",
    ),
    "visitors in the hall": (
        "visitors in the hall",
        "a school class came to look around",
        "guided tour passed through",
        "guests from head office walked by",
        "delegation visited the line",
        "group of students on tour",
        "many strangers in the plant today",
        "open day with a crowd of guests",
    ),
    "oil leak": (
        "oil leak under the press",
        "puddle of oil found",
        "lubricant dripping from the gearbox",
        "machine is losing oil",
        "oily patch on the floor",
        "seal leaks, oil on the ground",
        "hydraulic oil is seeping out",
        "grease and oil running down the side",
    ),
    "late delivery": (
        "late delivery of parts",
        "the lorry came three hours late",
        "parts have not arrived yet",
        "supplier is behind schedule",
        "waiting for the truck with material",
        "shipment delayed again",
        "material delivery postponed",
        "goods arrived after noon instead of early",
    ),
}

HELD_OUT: Mapping[str, tuple[str, ...]] = {
    "belt tightened": (
        "belt tightened",
        "took the slack out of the drive belt",
        "the loose belt was tensioned",
        "adjusted belt tension upwards",
        "drive belt pulled tight again",
        "corrected the sagging belt",
        "more tension on the belt now",
        "belt retensioned after inspection",
    ),
    "water in the pit": (
        "water in the pit",
        "the pit is flooded",
        "ground water came in below the machine",
        "pumped out the flooded cellar",
        "standing water under the floor plates",
        "rain water ran into the pit",
        "wet pit, water ankle deep",
        "flooding in the lower level",
    ),
    "new operator": (
        "new operator at the desk",
        "a trainee runs the machine",
        "first day of a new colleague",
        "inexperienced staff at the controls",
        "apprentice took over the line",
        "a newcomer operates it today",
        "temporary worker being shown the ropes",
        "freshly hired person in charge",
    ),
    "alarm test": (
        "alarm test",
        "sirens were tried out",
        "fire drill this morning",
        "tested the warning horn",
        "evacuation exercise held",
        "trial run of the alarm bells",
        "safety drill with all staff",
        "the emergency signal was checked",
    ),
    "dust from building work": (
        "dust from building work",
        "builders drill next door, dusty air",
        "construction site makes a lot of dust",
        "walls are being broken down, dust everywhere",
        "masons at work, powder in the air",
        "plaster dust from renovation",
        "demolition nearby covers all with dust",
        "renovation crew sawing concrete",
    ),
    "night of frost": (
        "night of frost",
        "it froze outside",
        "ice on the pipes in the morning",
        "temperature fell below zero overnight",
        "hard frost, frozen gutters",
        "icy night behind us",
        "everything frozen stiff at dawn",
        "subzero cold since midnight",
    ),
    "software update": (
        "software update installed",
        "controller got new firmware",
        "the program was upgraded",
        "new version of the control code loaded",
        "patched the control computer",
        "firmware flashed to the latest release",
        "update of the PLC program done",
        "running the upgraded software now",
    ),
}

#: What may stand behind a note; says nothing.
REMARKS = (
    "",
    "",
    "",
    "as reported by the night crew",
    "says the foreman",
    "see the log book",
    "noted by Ann",
    "seen at ten o'clock",
    "again",
)


class Scene(NamedTuple):
    """A target, the two fields that decide it, and their labels; the first field has three, the second two."""

    target: str
    fields: tuple[str, str]
    labels: Mapping[str, tuple[str, ...]]


SCENES_TUNED = (
    Scene(
        "how much mould grows on the tomato leaves",
        ("leaf_moisture", "greenhouse_vents"),
        {"leaf_moisture": ("dry", "damp", "wet"), "greenhouse_vents": ("open", "shut")},
    ),
    Scene(
        "how long the queue at the ticket gate is",
        ("train_delay", "football_match"),
        {"train_delay": ("none", "short", "long"), "football_match": ("today", "no")},
    ),
    Scene(
        "how loud the factory fan is",
        ("fan_speed", "bearing_grease"),
        {"fan_speed": ("slow", "normal", "fast"), "bearing_grease": ("fresh", "old")},
    ),
)

SCENES_HELD_OUT = (
    Scene(
        "how much ice forms on the wind turbine's blades",
        ("air_frost", "blade_heating"),
        {"air_frost": ("none", "light", "hard"), "blade_heating": ("on", "off")},
    ),
    Scene(
        "how many algae grow in the pond",
        ("pond_nutrients", "water_shade"),
        {"pond_nutrients": ("poor", "some", "rich"), "water_shade": ("yes", "no")},
    ),
    Scene(
        "how full the bus to the beach is",
        ("beach_weather", "school_holiday"),
        {"beach_weather": ("rainy", "mixed", "sunny"), "school_holiday": ("yes", "no")},
    ),
    Scene(
        "how strongly the bread dough rises",
        ("yeast_amount", "oven_room_warmth"),
        {"yeast_amount": ("little", "usual", "much"), "oven_room_warmth": ("cool", "warm")},
    ),
)

_COLOURS = ("red", "green", "blue")
_SIDES = ("left", "right")
_LETTERS = ("A", "B", "C")
_YES_NO = ("yes", "no")
_SIZES = ("small", "mid", "large")

DISTRACTORS_TUNED = (
    ("badge_colour", _COLOURS),
    ("carpet_tone", _COLOURS),
    ("chair_side", _SIDES),
    ("clock_face", _LETTERS),
    ("cup_size", _SIZES),
    ("desk_plant", _YES_NO),
    ("flag_side", _SIDES),
    ("form_letter", _LETTERS),
    ("lamp_shape", _LETTERS),
    ("lift_side", _SIDES),
    ("logo_colour", _COLOURS),
    ("map_fold", _LETTERS),
    ("menu_choice", _LETTERS),
    ("paper_stock", _SIZES),
    ("pen_colour", _COLOURS),
    ("phone_ring", _LETTERS),
    ("poster_size", _SIZES),
    ("radio_channel", _LETTERS),
    ("shelf_row", _LETTERS),
    ("sign_font", _LETTERS),
    ("stamp_ink", _COLOURS),
    ("wall_paint", _COLOURS),
)

DISTRACTORS_HELD_OUT = (
    ("apron_colour", _COLOURS),
    ("bag_size", _SIZES),
    ("bell_tone", _LETTERS),
    ("bench_side", _SIDES),
    ("book_cover", _COLOURS),
    ("button_shape", _LETTERS),
    ("calendar_picture", _LETTERS),
    ("coat_hook", _SIDES),
    ("coin_side", _SIDES),
    ("curtain_colour", _COLOURS),
    ("door_number", _LETTERS),
    ("envelope_size", _SIZES),
    ("folder_colour", _COLOURS),
    ("hat_size", _SIZES),
    ("key_ring", _LETTERS),
    ("label_font", _LETTERS),
    ("locker_row", _LETTERS),
    ("mug_colour", _COLOURS),
    ("notebook_lines", _YES_NO),
    ("song_of_day", _LETTERS),
    ("tie_pattern", _LETTERS),
    ("tray_side", _SIDES),
)
