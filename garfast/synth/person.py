"""Who is in the picture: identity, expression, and what skin, eyes, lips, brows and beard look like."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from garfast.morphable import MorphableModel
from garfast.synth.colour import hair_colour, iris_colour, skin_colour, to_linear
from garfast.synth.config import SynthConfig
from garfast.synth.dice import Dice
from garfast.synth.template import FIELDS, HeadTemplate

Floats = NDArray[np.float32]

# Activations 0..1 by blendshape name without side; what the model lacks is skipped.
_MOODS: tuple[tuple[float, dict[str, tuple[float, float]]], ...] = (
    (0.22, {}),
    (0.2, {"mouthSmile": (0.2, 0.8), "cheekSquint": (0, 0.6), "mouthDimple": (0, 0.4), "eyeSquint": (0, 0.4)}),
    (
        0.13,
        {
            "mouthSmile": (0.4, 1.0),
            "jawOpen": (0.05, 0.35),
            "mouthUpperUp": (0.1, 0.6),
            "mouthLowerDown": (0, 0.5),
            "cheekSquint": (0.2, 0.9),
            "eyeSquint": (0.1, 0.6),
        },
    ),
    # Broad smiles that show the teeth, with the jaw all but closed: what most people do for a photograph.
    (
        0.14,
        {
            "mouthSmile": (0.5, 1.0),
            "jawOpen": (0.0, 0.12),
            "mouthUpperUp": (0.1, 0.7),
            "mouthLowerDown": (0.1, 0.8),
            "mouthStretch": (0, 0.4),
            "mouthDimple": (0, 0.5),
            "cheekSquint": (0.1, 0.9),
            "eyeSquint": (0, 0.6),
        },
    ),
    (0.05, {"mouthUpperUp": (0.1, 0.7), "mouthLowerDown": (0.2, 0.9), "mouthStretch": (0.1, 0.8), "jawOpen": (0, 0.1)}),
    (0.13, {"jawOpen": (0.05, 0.4), "mouthFunnel": (0, 0.5), "mouthStretch": (0, 0.5), "mouthLowerDown": (0, 0.5)}),
    (0.06, {"jawOpen": (0.3, 0.95), "browInnerUp": (0.2, 1), "browOuterUp": (0.2, 1), "eyeWide": (0.2, 1)}),
    (0.05, {"browDown": (0.3, 1), "noseSneer": (0.1, 0.8), "mouthPress": (0, 0.8), "eyeSquint": (0, 0.6)}),
    (0.05, {"mouthFrown": (0.3, 0.9), "browInnerUp": (0.1, 0.9), "mouthShrugLower": (0, 0.6)}),
    (0.04, {"mouthPucker": (0.3, 1), "mouthFunnel": (0, 0.5)}),
    (0.03, {"mouthLeft": (0, 0.7), "jawLeft": (0, 0.5), "mouthSmile": (0, 0.5)}),
    (0.03, {"mouthRight": (0, 0.7), "jawRight": (0, 0.5), "mouthSmile": (0, 0.5)}),
    (0.02, {"cheekPuff": (0.2, 1), "mouthPress": (0, 0.6), "jawOpenMouthClose": (0, 0.2)}),
)
_LOWER_FACES = 0.6  # share of faces whose jaw and chin vary beyond the model's prior
_EXTRAS = (
    "browDown",
    "browInnerUp",
    "browOuterUp",
    "cheekSquint",
    "eyeSquint",
    "eyeWide",
    "noseSneer",
    "mouthPress",
    "mouthRollLower",
    "mouthRollUpper",
    "mouthShrugUpper",
    "mouthShrugLower",
    "mouthDimple",
    "mouthStretch",
    "jawForward",
    "cheekRaiser",
    "mouthUpperUp",
    "jawOpenMouthClose",
)


# The built-in face's names for the same movements.
_OTHER_NAMES = {
    "jaw_open": "jawOpen",
    "jaw_forward": "jawForward",
    "smile_left": "mouthSmile_L",
    "smile_right": "mouthSmile_R",
    "frown_left": "mouthFrown_L",
    "frown_right": "mouthFrown_R",
    "dimple_left": "mouthDimple_L",
    "dimple_right": "mouthDimple_R",
    "mouth_stretch": "mouthStretch",
    "pucker": "mouthPucker",
    "lip_funnel": "mouthFunnel",
    "lip_press": "mouthPress",
    "upper_lip_raise": "mouthUpperUp",
    "lower_lip_depress": "mouthLowerDown",
    "chin_raise": "mouthShrugLower",
    "cheek_puff": "cheekPuff",
    "squint_left": "eyeSquint_L",
    "squint_right": "eyeSquint_R",
    "blink_left": "eyeBlink_L",
    "blink_right": "eyeBlink_R",
    "eyes_wide": "eyeWide",
    "brow_raise_inner": "browInnerUp",
    "brow_raise_outer_left": "browOuterUp_L",
    "brow_raise_outer_right": "browOuterUp_R",
    "brow_lower": "browDown",
    "nose_wrinkle": "noseSneer",
}


@dataclass
class Person:
    """One face. ``parameters`` are material parameters by name (csrc/include/garfast/synth.h)."""

    shape: Floats
    exp: Floats
    tone: float
    skin: Floats
    hair: Floats
    beard: Floats | None
    blotches: tuple[int, int]  # which smooth fields of the template colour the skin
    parameters: dict[str, float] = field(default_factory=dict)

    def set_colour(self, name: str, colour: NDArray[np.floating], low: float = 0.0, high: float = 1.0) -> None:
        """Set ``name_r``, ``name_g`` and ``name_b``, within limits."""
        for channel, value in zip("rgb", colour.tolist(), strict=True):
            self.parameters[f"{name}_{channel}"] = min(max(value, low), high)


def sample_person(rng: Dice, template: HeadTemplate, config: SynthConfig) -> Person:
    """Draw a face. The template must be that of the model drawn with."""
    tone = float(rng.random())
    skin = skin_colour(rng, tone)
    hair = hair_colour(rng, tone)
    model = template.model
    spread = rng.uniform(*config.shape_scale)
    shape = rng.standard_normal(model.num_shape) * spread
    if rng.random() < _LOWER_FACES:
        # Jaws and chins vary more among people than among the scans of a model.
        shape += config.shape_scale[1] * rng.standard_normal(len(template.proportions)) @ template.proportions
    person = Person(
        np.float32(np.clip(shape, -3, 3)),
        sample_expression(rng, model, config.expression),
        tone,
        skin,
        hair,
        None,
        _blotches(rng),
    )
    _skin(rng, person)
    _makeup(rng, person)
    _brows(rng, person)
    _eyes(rng, person)
    if rng.random() < config.beard:
        person.beard = _beard(rng, person, template)
    return person


def sample_expression(rng: Dice, model: MorphableModel, strength: float) -> Floats:
    """Expression coefficients [E] in standard deviations, within the model's bounds.

    Models with named one-sided blendshapes get moods (smile, talk, surprise ...), gaze and blinks; of others the
    coefficients are drawn from the prior.
    """
    lower, upper, reach, names = _movements(model)
    if not {"jawOpen", "mouthSmile_L"} <= names.keys():
        free = rng.standard_normal(model.num_exp) * rng.uniform(0.2, 0.9) * strength
        active = np.where(np.isfinite(lower) & (lower >= 0), rng.random(model.num_exp) < 0.3, True)
        return np.clip(np.where(active, free, 0), lower, upper).astype(np.float32)
    activation = np.zeros(model.num_exp)

    def push(base: str, amount: float, asymmetry: float) -> None:
        for name in (base, f"{base}_L", f"{base}_R"):
            if name in names:
                one_sided = 1 + asymmetry * rng.standard_normal() if name != base else 1
                activation[names[name]] += amount * max(one_sided, 0)

    mood = _MOODS[rng.pick([mood[0] for mood in _MOODS])][1]
    asymmetry = abs(rng.normal(0, 0.15))
    for base, (low, high) in mood.items():
        push(base, rng.uniform(low, high), asymmetry)
    for base in _EXTRAS:
        if rng.random() < 0.1:
            push(base, rng.uniform(0, 0.5), 0.3)
    if rng.random() < 0.12:
        push("jawOpen", rng.uniform(0.1, 0.8), 0)
    gaze_x, gaze_y = (min(max(rng.normal(0, spread), -0.8), 0.8) for spread in (0.3, 0.2))
    sides = ("Out_L", "In_R") if gaze_x > 0 else ("In_L", "Out_R")
    for name in (f"eyeLook{sides[0]}", f"eyeLook{sides[1]}"):
        push(name, abs(gaze_x), 0)
    push("eyeLookUp" if gaze_y > 0 else "eyeLookDown", abs(gaze_y), 0)
    # Modes that go both ways.
    signed = {"gaze_left_right": gaze_x, "gaze_up_down": gaze_y, "mouth_left_right": 0.0, "jaw_left_right": 0.0}
    if rng.random() < 0.12:
        signed |= {"mouth_left_right": rng.uniform(-0.6, 0.6), "jaw_left_right": rng.uniform(-0.4, 0.4)}
    blink = rng.random()
    if blink < 0.08:
        push("eyeBlink", rng.uniform(0.85, 1.0), 0.02)
    elif blink < 0.4:
        push("eyeBlink", rng.uniform(0, 0.4), 0.1)
    elif blink < 0.42:
        push("eyeBlink_L" if rng.random() < 0.5 else "eyeBlink_R", rng.uniform(0.8, 1), 0)
    activation = np.clip(activation * strength, 0, 1)
    for name, amount in signed.items():
        if name in names:
            activation[names[name]] = amount * strength
    return np.clip(activation * reach, lower, upper).astype(np.float32)


@lru_cache(maxsize=4)
def _movements(model: MorphableModel) -> tuple[Floats, Floats, Floats, dict[str, int]]:
    """Least, largest and full activation [E] of a model's expressions, and their places by name."""
    lower, upper = model.exp_bounds.cpu().numpy().T
    names = {_OTHER_NAMES.get(name, name): k for k, name in enumerate(model.exp_names)}
    return lower, upper, np.where(np.isfinite(upper), upper, np.float32(3)), names


def _blotches(rng: Dice) -> tuple[int, int]:
    return rng.below(FIELDS), rng.below(FIELDS)


def _skin(rng: Dice, person: Person) -> None:
    fair = 1 - person.tone
    age = rng.random() ** 1.5
    person.set_colour("skin", person.skin)
    lip = person.skin * np.array([rng.uniform(0.78, 1.0), rng.uniform(0.5, 0.75), rng.uniform(0.52, 0.8)])
    person.set_colour("lip", lip, 0.01, 0.9)
    person.parameters.update(
        noise_x=rng.uniform(0, 12),
        noise_y=rng.uniform(0, 12),
        noise_z=rng.uniform(0, 12),
        mottle=rng.uniform(0.01, 0.09),
        redness=rng.uniform(0.01, 0.12) * (0.3 + fair),
        blush=rng.uniform(0, 0.55) * (0.25 + fair),
        freckles=rng.uniform(0.2, 1.0) if rng.random() < 0.22 else 0.0,
        freckle_size=rng.uniform(1.8, 3.2),
        oil=rng.uniform(0.015, 0.075),
        gloss=rng.log_uniform(6, 40),
        bump=rng.uniform(0.02, 0.13) * (0.6 + 0.8 * age),
        wrinkles=rng.uniform(0.1, 0.6) * age if age > 0.4 else 0.0,
        bags=rng.uniform(0, 0.5) * (0.4 + age),
        lip_strength=rng.uniform(0.45, 0.95),
        lip_gloss=rng.uniform(0, 0.05),
        wrap=rng.uniform(0.3, 0.5),
    )
    shade = rng.uniform(0.45, 0.85)
    person.set_colour("teeth", np.array([1.0, 0.93, 0.82 + rng.uniform(-0.1, 0.08)]) * shade)
    person.set_colour("mouth", np.array([0.34, 0.1, 0.09]) * rng.uniform(0.6, 1.3))
    for k in range(3):
        present = rng.random() < 0.25
        # Moles sit on the cheeks, chin and forehead: a place in front, pushed onto the skin by the radius test.
        x, y = rng.uniform(-50, 50), rng.uniform(-85, 40)
        person.parameters[f"mole{k}_x"] = x
        person.parameters[f"mole{k}_y"] = y
        person.parameters[f"mole{k}_z"] = 22.0 - 0.011 * x * x - 0.002 * y * y
        person.parameters[f"mole{k}_r"] = rng.uniform(0.7, 1.8) if present else 0.0


def _makeup(rng: Dice, person: Person) -> None:
    made_up = rng.random() < 0.3
    person.set_colour("shadow", person.skin * np.array([0.62, 0.5, 0.48]))
    strength = rng.uniform(0.05, 0.4)
    if made_up:
        strength = rng.uniform(0.2, 0.8)
        if rng.random() < 0.6:
            tint = to_linear(rng.uniform(20, 190, 3))
            person.set_colour("shadow", 0.5 * tint + 0.5 * person.skin * 0.6)
        if rng.random() < 0.75:
            lip = to_linear(np.array([rng.uniform(90, 210), rng.uniform(10, 90), rng.uniform(25, 110)]))
            mixed = rng.uniform(0.4, 1.0)
            person.set_colour("lip", mixed * lip + (1 - mixed) * person.skin * 0.7)
            person.parameters["lip_strength"] = rng.uniform(0.7, 1.0)
            person.parameters["lip_gloss"] = rng.uniform(0, 0.12)
    person.parameters.update(
        shadow_strength=strength,
        shadow_width=rng.uniform(4, 9),
        liner=rng.uniform(0.75, 1.0) if made_up else rng.uniform(0.35, 0.95),
        lash_length=rng.uniform(1.1, 2.2) if made_up else rng.uniform(0.7, 1.5),
    )


def _brows(rng: Dice, person: Person) -> None:
    colour = person.hair * rng.uniform(0.35, 0.9) if rng.random() < 0.8 else np.array([0.012, 0.009, 0.008])
    person.set_colour("brow", colour, 0.004, 0.4)
    faint = rng.random() < 0.1
    person.parameters.update(
        brow_strength=rng.uniform(0.1, 0.4) if faint else rng.uniform(0.55, 1.0),
        brow_width=rng.uniform(2.6, 6.0),
        brow_taper=rng.uniform(0.3, 0.75),
        brow_start=rng.uniform(-0.12, 0.12),
        brow_end=rng.uniform(0.88, 1.18),
        brow_ragged=rng.uniform(0.25, 0.75),
        brow_rise=rng.uniform(-1.0, 1.8),
    )


def _eyes(rng: Dice, person: Person) -> None:
    person.set_colour("iris", iris_colour(rng, person.tone))
    white = rng.uniform(0.5, 0.8)
    person.set_colour("sclera", np.array([1.0, rng.uniform(0.88, 0.97), rng.uniform(0.82, 0.96)]) * white)
    person.parameters.update(
        iris_ring=rng.uniform(0.35, 0.85),
        veins=rng.uniform(0.0, 0.35),
        catchlight=rng.uniform(0.3, 1.4) if rng.random() < 0.85 else 0.0,
        catch_x=rng.uniform(-0.3, 0.3),
        catch_y=rng.uniform(0.05, 0.4),
        catch_size=rng.uniform(0.05, 0.16),
    )


def _beard(rng: Dice, person: Person, template: HeadTemplate) -> Floats:
    """[V] 0..1 where the beard grows; sets its colour and kind."""
    room, moustache = template.beard_room, template.moustache
    coarse = template.fields[1, rng.below(FIELDS)] * 4.0 + template.fields[2, rng.below(FIELDS)] * 2.0
    inside = np.clip((room - rng.uniform(0, 14) + coarse) / rng.uniform(5, 18), 0, 1)
    kind = rng.random()
    canonical_x = template.attributes[:, 0]
    if kind < 0.55:
        area = np.maximum(inside, moustache)
    elif kind < 0.7:
        area = moustache
    elif kind < 0.85:
        chin = np.clip(1.4 - np.abs(canonical_x) / rng.uniform(16, 30), 0, 1)
        area = np.maximum(np.clip(inside * chin * 1.5, 0, 1), moustache * (rng.random() < 0.7))
    else:
        area = inside
    person.set_colour("beard", person.hair * rng.uniform(0.3, 0.85), 0.005, 0.5)
    stubble = rng.random() < 0.5
    person.parameters.update(
        stubble=rng.uniform(0.15, 0.6) if stubble else rng.uniform(0.3, 0.8),
        beard_strength=0.0 if stubble else rng.uniform(0.5, 1.0),
        beard_grain=rng.uniform(3, 10),
    )
    return np.clip(area, 0, 1).astype(np.float32)
