"""What may vary in synthetic photographs, and how much."""

from __future__ import annotations

from dataclasses import dataclass, fields

from garfast.errors import ArgumentError


@dataclass(frozen=True, kw_only=True)
class SynthConfig:
    """Ranges and shares of :class:`garfast.synth.SyntheticFaces`. Angles are degrees, shares are 0..1.

    Attributes:
        face_scale: smallest and largest size of the face: the longer side of the box around its 68 landmarks as a
            fraction of the image's side. 0.75 is a tight crop, 0.1 a small face in a wide scene.
        centre_jitter: how far the face's box may be off the middle, as a fraction of the image's side. With wide scenes
            the face may go anywhere as long as its box stays inside: see ``anywhere``.
        anywhere: place the face's box uniformly over the image instead of near the middle.
        max_yaw, max_pitch, max_roll: the usual ranges of head angles; most heads are well inside.
        tail_yaw, tail_pitch, tail_roll: the limits of the rare heads beyond (one in twenty).
        perspective: share of pinhole cameras; the rest are scaled orthographic.
        distance: nearest and farthest camera, mm (selfie to tele lens).
        shape_scale: spread of identity coefficients, in standard deviations of the model's prior; drawn per face.
        expression: overall strength of expressions; 0 is neutral.
        hair, hat, glasses, beard, object: shares of faces with hair, a hat, glasses, a beard or stubble, and something
            in front of the face.
        clothes: whether the neck ends in clothes.
        photo_faults: strength of blur, noise, JPEG and the like; 0 leaves the clean picture.
        busy_background: share of backgrounds that show pictures, shapes or textures; the rest are soft gradients.
        photos_per_person: how many consecutive samples show the same person (model, shape, looks and hair) with another
            expression, pose, light, clothes, things and background.
        vertices: add the camera-space ``vertices`` of the whole model to each sample.
        normals: make ``normal_map`` and ``mask``.
        simplify: how coarse a mesh is drawn: by what share of a pixel of the largest faces it may leave the model's
            (see :func:`garfast.synth.native.simplify_mesh`); 0 draws every triangle.

    Raises:
        ArgumentError: a range is empty or a share is outside 0..1.
    """

    face_scale: tuple[float, float] = (0.35, 0.75)
    centre_jitter: float = 0.07
    anywhere: bool = False
    max_yaw: float = 75.0
    max_pitch: float = 30.0
    max_roll: float = 30.0
    tail_yaw: float = 85.0
    tail_pitch: float = 45.0
    tail_roll: float = 45.0
    perspective: float = 0.75
    distance: tuple[float, float] = (280.0, 3000.0)
    shape_scale: tuple[float, float] = (0.5, 1.1)
    expression: float = 1.0
    hair: float = 0.9
    hat: float = 0.08
    glasses: float = 0.18
    beard: float = 0.35
    object: float = 0.12
    clothes: bool = True
    photo_faults: float = 1.0
    busy_background: float = 1.0
    photos_per_person: int = 1
    vertices: bool = False
    normals: bool = True
    simplify: float = 1.0

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, tuple) and not 0 < value[0] <= value[1]:
                raise ArgumentError(f"{item.name} must be two positive numbers in ascending order, got {value}")
        for name in ("perspective", "hair", "hat", "glasses", "beard", "object", "busy_background"):
            if not 0 <= getattr(self, name) <= 1:
                raise ArgumentError(f"{name} must be a share between 0 and 1, got {getattr(self, name)}")
        for name in ("yaw", "pitch", "roll"):
            usual, tail = getattr(self, f"max_{name}"), getattr(self, f"tail_{name}")
            if not 0 <= usual <= tail <= 180:
                raise ArgumentError(f"max_{name} must lie between 0 and tail_{name} <= 180, got {usual} and {tail}")
        if self.photos_per_person < 1:
            raise ArgumentError(f"photos_per_person must be at least 1, got {self.photos_per_person}")
        if self.face_scale[1] > 2 or min(self.centre_jitter, self.photo_faults, self.expression, self.simplify) < 0:
            raise ArgumentError(
                "face_scale must be at most 2, and centre_jitter, photo_faults, expression and simplify must not be "
                "negative"
            )
