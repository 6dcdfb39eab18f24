"""Every setting of the system: frozen, typed, with the paper's sentence beside the paper's number.

A setting has one name: here, on the command line (`pretrain.batch_size=4`), in `config.json` of every run. "Paper" is
Zhang & Zhang, "Pixel-global Self-supervised Learning with Uncertainty-aware Context Stabilizer", quoted in its words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    PositiveFloat,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from pixelglobal.config.registry import METHODS, method_class
from pixelglobal.config.section import Section, unknown_name_message
from pixelglobal.config.tolerance import tolerance_of

Precision = Literal["fp32", "bf16", "fp16"]


def _tolerance(value: Any) -> Any:
    """As it is typed, such as Liver=3,Spleen=2."""
    return tolerance_of(value) if isinstance(value, str) else value


def _require_multiple_of_32(name: str, value: int) -> None:
    if value % 32:
        lower = max(32, value // 32 * 32)
        raise ValueError(
            f"{name}={value}: the encoder halves the image five times, so it must be a multiple of 32; "
            f"try {lower} or {lower + 32}"
        )


class Prepare(Section):
    """From scans to Parquet slices."""

    layout: str | None = None  # how the cohort is stored, as in docs/reference/layouts.md; None: as its files suggest
    channel: int | None = Field(None, ge=0)  # which channel of several, or which volume of 4-D files
    images: str | None = None  # layout "folder": where scans are, such as "*/{case}/ct.nrrd"
    labels: str | None = None  # layout "folder": where their labels are
    structures: tuple[str, ...] = ()  # names of the label values 1, 2, 3, ... where the layout has none of its own
    roi_names: str | None = None  # layout "dicom": a JSON file with the ROI names of each structure
    may_lose: tuple[str, ...] = ()  # structures that the crop may cut away whole; of any other, that is an error
    leave_out: tuple[str, ...] = ()  # cases, or known issues of a public cohort by name
    fix: tuple[Literal["header", "resample", "orientation"], ...] = ()  # see docs/how-to/check-data.md, as the next two
    quarantine: tuple[str, ...] = ("not_hu", "stored_offset", "no_body", "spacing")  # kinds of suspects
    max_quarantined: float = Field(0.05, ge=0, le=1)  # `prepare` fails above this share of the cases; one may always be
    hu_min: float = -1024.0  # paper: "clipped the pixel values to the range of [-1024, +325] of Hounsfield units"
    hu_max: float = 325.0
    image_size: int = Field(384, ge=32)  # paper: "center-cropped each slice to the size of 384x384"
    in_plane_spacing_mm: float | None = Field(None, gt=0)  # None: never resample, as in the paper
    antialias: bool = True  # where resampling shrinks a slice, a pixel is the mean HU of the area that it covers
    absent_structures: Literal["not_contoured", "absent"] = "not_contoured"  # what zero voxels in a whole patient mean
    train_fraction: float = Field(0.4, ge=0, le=1)  # paper: 40/10/50 cases of the in-house sets
    validation_fraction: float = Field(0.1, ge=0, lt=1)  # with it 0 and train_fraction 0, all are test patients
    keep_ids: bool = False  # names of files and patients; else salted hashes, see docs/explanation/privacy.md
    id_map: str | None = None  # the file of names and their hashes; None: .pixelglobal-ids.json beside the scans
    # "fractions", "pretrain" (all, without labels), or a division that the layout offers; None: a published one.
    split: str | None = None
    split_file: str | None = None  # a JSON of case names, used instead of any other division
    split_seed: int = 0
    # Scans in different splits that are nearer than this are refused, see data/fingerprint; 0 compares none.
    near_duplicate_hu: float = Field(25.0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> Prepare:
        if self.hu_min >= self.hu_max:
            raise ValueError(f"prepare.hu_min={self.hu_min} must be below prepare.hu_max={self.hu_max}")
        if round(self.train_fraction + self.validation_fraction, 6) > 1:
            raise ValueError(
                f"prepare.train_fraction={self.train_fraction} and prepare.validation_fraction="
                f"{self.validation_fraction} are more than all patients; their sum is at most 1 (then none is tested)"
            )
        if (self.train_fraction > 0) != (self.validation_fraction > 0):
            raise ValueError(
                f"prepare.train_fraction={self.train_fraction} and prepare.validation_fraction="
                f"{self.validation_fraction}: fine-tuning stops early by validation; set both above 0, or both to 0 "
                "for a cohort of test patients alone"
            )
        return self


class Augmentation(Section):
    """Random changes of a slice, of which `views.*` and `finetune.*` each have their own values."""

    rotation_degrees_max: float = Field(15.0, ge=0, le=180)
    rotation_probability: float = Field(0.5, ge=0, le=1)
    flip_horizontal_probability: float = Field(0.5, ge=0, le=1)
    flip_vertical_probability: float = Field(0.5, ge=0, le=1)
    contrast_min: float = Field(0.75, gt=0)
    contrast_max: float = Field(1.25, gt=0)
    contrast_probability: float = Field(0.5, ge=0, le=1)
    gamma_min: float = Field(0.7, gt=0)
    gamma_max: float = Field(1.5, gt=0)
    gamma_probability: float = Field(0.5, ge=0, le=1)

    @model_validator(mode="after")
    def _check_ranges(self) -> Self:
        section = type(self).__name__.lower()
        for name in [field.removesuffix("_min") for field in type(self).model_fields if field.endswith("_min")]:
            low, high = getattr(self, f"{name}_min"), getattr(self, f"{name}_max")
            if low > high:
                raise ValueError(f"{section}.{name}_min={low} is above {section}.{name}_max={high}")
        return self


class Views(Augmentation):
    """The augmentations of the paper: "cropping & scaling, rotation, vertical & horizontal flipping, and contrast &
    gamma adjustment". It gives no ranges; scale, contrast and gamma are those of PGL (Xie et al. 2020)."""

    crop_size: int = Field(224, ge=32)  # paper: "randomly cropped and scaled every input image to 224x224"
    crop_scale_min: float = Field(1.1, gt=0)  # side of the source window, in units of crop_size
    crop_scale_max: float = Field(1.4, gt=0)

    @model_validator(mode="after")
    def _check(self) -> Views:
        _require_multiple_of_32("views.crop_size", self.crop_size)
        return self


class Network(Section):
    """The encoder-decoder ("ResUnet50") that is pre-trained and then fine-tuned."""

    without_effect = frozenset({"weights"})  # has its effect through what the file holds
    added: ClassVar[Mapping[str, Any]] = {"in_channels": 1}

    in_channels: int = Field(1, ge=1)  # 1: CT and grey pictures; 3: pictures in colour
    encoder: str = "resnet50"  # any timm encoder that gives a feature pyramid
    decoder_widths: tuple[int, ...] = (256, 128, 64, 64, 64)  # channels after each doubling of the resolution
    # A .safetensors file of the encoder, such as timm's ImageNet weights, from which a fine-tuning without pre-training
    # starts (method `imagenet` of studies); None: random weights.
    weights: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Network:
        if ":" in self.encoder or "/" in self.encoder:
            raise ValueError(
                f"network.encoder={self.encoder!r} would have timm read a model from a hub or a folder; give the name "
                "of an architecture that timm knows, such as resnet50, and its weights as network.weights=FILE"
            )
        return self


class Pretrain(Section):
    """Self-supervised pre-training: what every method has in common. A method's own settings are a section of its name,
    such as `pixel_global.*`, which lies in its file."""

    without_effect = frozenset({"seed", "cases", "source_weights"}).union(
        ("compile", "log_every_steps", "measure_every_steps", "on_collapse", "checkpoints_to_keep")
    )  # the first three have their effect through Config.pretraining_seed and the slices that are chosen

    method: str = "pixel_global"  # one of registry.METHODS, or module:Class for a method of your own
    seed: int | None = None  # None: the run's `seed`; else runs with other seeds may share a pre-training
    cases: Literal["pretrain", "train"] = "pretrain"  # the split that is seen; train: no scan beyond the downstream set
    # How often slices of each cohort of a pool are shown: proportional: every scan once; balanced: each cohort equally
    # often; or {"COHORT": NUMBER, ...}. The paper mixes its five sources without a word: proportional.
    source_weights: Literal["proportional", "balanced"] | dict[str, float] = "proportional"
    flips: bool = True  # false: views are never mirrored, so left and right organs may have different codes
    optimizer: Literal["lars", "sgd", "adamw"] = "lars"  # paper: "we use a LARS optimizer"
    learning_rate: float = Field(0.2, gt=0)  # paper: "initial learning rate to 0.2"
    weight_decay: float = Field(1.5e-6, ge=0)  # BYOL; the paper gives none
    momentum: float = Field(0.9, ge=0, lt=1)
    gradient_clip: float = Field(3.0, ge=0)  # DINO; 0 switches it off
    warmup_epochs: float = Field(2.0, ge=0)  # paper: "warm-up period of 2 epochs"
    epochs: int = Field(500, ge=1)  # paper: "maximum epoch to 500"
    steps_per_epoch: int | None = Field(None, ge=1)  # None: one pass over the slices
    batch_size: int = Field(8, ge=2)  # paper: "batch size to 8"; over all workers together
    precision: Precision = "bf16"
    normalization: Literal["dataset", "slice"] = "dataset"  # scope of the paper's "Z-score normalization"
    compile: bool = False  # torch.compile the networks: minutes at the start, then faster steps
    log_every_steps: int = Field(10, ge=1)
    measure_every_steps: int = Field(100, ge=0)  # of collapse, and how well twins find each other; 0: never
    on_collapse: Literal["stop", "warn"] = "stop"
    checkpoints_to_keep: int = Field(2, ge=1)

    @model_validator(mode="after")
    def _check(self) -> Pretrain:
        if self.method not in METHODS and ":" not in self.method:
            raise ValueError(
                f"pretrain.method={self.method!r} is unknown: choose one of {', '.join(METHODS)}, or give "
                "module:Class for a method of your own"
            )
        if self.batch_size % 2:
            raise ValueError(f"pretrain.batch_size={self.batch_size} must be even: slices come as pairs of partners")
        return self


class Finetune(Augmentation):
    """Supervised training of the encoder-decoder on few labelled patients. Where the paper gives no number, the values
    are those that served best on development patients (docs/LOG.md, 2026-11-28)."""

    without_effect = frozenset({"patients"})  # has its effect through the cases that it chooses

    transfer: Literal["encoder_decoder", "encoder"] = "encoder_decoder"
    transfer_from: Literal["student", "teacher"] = "student"
    patients: int | None = Field(None, ge=1)  # how many labelled training patients; None: all
    slices: Literal["labelled", "all"] = "labelled"
    # A second round: a fresh network from the same weights learns from the labelled slices and from as many slices of
    # unlabelled pre-training patients, which the first round's network has labelled. 0: no second round.
    pseudo_labels: int = Field(0, ge=0)
    pseudo_label_fraction: float = Field(0.5, ge=0, lt=1)  # share of them in a batch of the second round
    empty_slice_fraction: float = Field(0.1, ge=0, lt=1)  # share of slices without a structure beside the labelled ones
    optimizer: Literal["adam", "adamw"] = "adam"  # paper: "We used the Adam optimizer"
    learning_rate: float = Field(1e-3, gt=0)  # paper: "initial learning rate to 0.001"
    pretrained_learning_rate_factor: float = Field(1.0, gt=0)  # for transferred weights
    weight_decay: float = Field(0.0, ge=0)
    warmup_fraction: float = Field(0.1, ge=0, lt=1)  # share of all steps in which the rate rises linearly to its peak
    polynomial_power: float = Field(0.9, gt=0)  # paper: "a polynomial learning scheduler"; DeepLab's power
    batch_size: int = Field(8, ge=1)  # paper: "batch size to 8"
    epochs: int = Field(100, ge=1)  # paper: "maximum epoch to 100"
    steps_per_epoch: int | None = Field(None, ge=1)
    patience_epochs: int = Field(20, ge=1)  # paper: "we also applied an early stopping mechanism"; it gives no number
    validate_every_epochs: int = Field(1, ge=1)
    dice_weight: float = Field(0.2, ge=0, le=1)  # the rest is cross-entropy
    # log_frequencies: untrained scores say how often each label is in the labelled slices; default: PyTorch's bias,
    # with which hundreds of steps pass before any structure is predicted.
    classifier_bias: Literal["log_frequencies", "default"] = "log_frequencies"
    by_structure_fraction: float = Field(0.5, ge=0, le=1)  # share of a batch: draw a structure, then a slice with it
    scale_min: float = Field(0.8, gt=0)  # zoom of the whole slice; the input stays prepare.image_size
    scale_max: float = Field(1.25, gt=0)
    translation_fraction: float = Field(0.1, ge=0, le=0.5)  # greatest shift along each axis, in units of the side
    rotation_probability: float = Field(1.0, ge=0, le=1)
    flip_vertical_probability: float = Field(0.0, ge=0, le=1)  # no patient lies upside down
    contrast_min: float = Field(0.6, gt=0)
    contrast_max: float = Field(1.4, gt=0)
    contrast_probability: float = Field(0.8, ge=0, le=1)
    gamma_min: float = Field(0.6, gt=0)
    gamma_max: float = Field(1.7, gt=0)
    gamma_probability: float = Field(0.8, ge=0, le=1)
    precision: Precision = "bf16"

    @model_validator(mode="after")
    def _check(self) -> Finetune:
        if self.validate_every_epochs > self.patience_epochs:
            raise ValueError(
                f"finetune.validate_every_epochs={self.validate_every_epochs} is more than finetune.patience_epochs="
                f"{self.patience_epochs}: the first validation would end the training"
            )
        return self


class Evaluate(Section):
    """Metrics on held-out patients, on the grid of the original scan."""

    without_effect = frozenset({"batch_size"})

    split: Literal["validation", "test"] = "test"
    surface_tolerance_mm: Annotated[PositiveFloat | dict[str, PositiveFloat], BeforeValidator(_tolerance)] = 3.0
    largest_component: bool = False  # keep each structure's largest connected component alone, in 3-D
    batch_size: int = Field(16, ge=1)


class Cluster(Section):
    """Where it runs. The number of workers is part of a result: each has its share of a batch, its own partners and
    negatives and, without `sync_batch_norm`, batch-norm statistics. The rest changes nothing but speed."""

    pretrain_workers: int = Field(1, ge=0)  # Ray Train workers; 0: the plain loop inside the trial
    finetune_workers: int = Field(0, ge=0)
    cpus_per_worker: float = Field(1.0, gt=0)
    sync_batch_norm: bool | None = (
        None  # batch norms see the slices of all workers, on CUDA alone; None: where possible
    )
    gpus_per_worker: float | None = Field(None, ge=0)  # None: one where the cluster has GPUs
    data_cpus: float = Field(1.0, gt=0)  # left free for Ray Data beside every run of workers
    checkpoint_minutes: float = Field(15.0, ge=0)  # between the states of a training; its last one is kept, too
    max_failures: int = Field(3, ge=0)  # of the workers of one training in a row, without a new state between them
    retries_per_run: int = Field(1, ge=0)  # of a study, unless settings or files are wrong; they go on, too
    threads_per_worker: int | None = Field(None, ge=1)


class Config(Section):
    """The whole of one run. `methods` holds a section for each method of the library and for the chosen one; in files
    and on the command line it stands beside the others, under its method's name."""

    seed: int = 0
    prepare: Prepare = Prepare()
    views: Views = Views()
    network: Network = Network()
    pretrain: Pretrain = Pretrain()
    finetune: Finetune = Finetune()
    evaluate: Evaluate = Evaluate()
    cluster: Cluster = Cluster()
    methods: dict[str, SerializeAsAny[Section]] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_names(cls, values: Any) -> Any:
        """Gathers the sections of methods, each checked by its own class; refuses other unknown names."""
        if not isinstance(values, Mapping):
            return values
        chosen = values.get("pretrain", {})
        chosen = chosen.get("method") if isinstance(chosen, Mapping) else getattr(chosen, "method", None)
        methods = list(METHODS)
        if isinstance(chosen, str) and ":" in chosen:
            methods.append(chosen)
        classes = {(method_class(method)).name: method_class(method).Settings for method in methods}
        known = [name for name in cls.model_fields if name != "methods"]
        for name in values:
            if name not in known and name not in classes:
                raise ValueError(
                    unknown_name_message(str(name), [*known, *classes], "Config")
                    + "; the section of a method of your own is known where pretrain.method=module:Class names it"
                )
        sections = {name: _validated(name, section, values.get(name, {})) for name, section in classes.items()}
        return {**{name: value for name, value in values.items() if name in known}, "methods": sections}

    @model_serializer(mode="wrap")
    def _beside_the_others(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        sections = values.pop("methods")
        return {**values, **sections}

    @model_validator(mode="after")
    def _check(self) -> Config:
        _require_multiple_of_32("prepare.image_size", self.prepare.image_size)
        return self

    @property
    def pretraining_seed(self) -> int:
        """The seed of the pre-training: `pretrain.seed`, or the run's own."""
        return self.seed if self.pretrain.seed is None else self.pretrain.seed

    @property
    def method_section(self) -> str:
        """The name of the section that the chosen method alone reads."""
        return str(method_class(self.pretrain.method).name)


def _validated(name: str, section: type[Section], values: Any) -> Section:
    """A method's section; an error names the setting in full."""
    try:
        return section.model_validate(values)
    except ValidationError as error:
        problems = [
            str(p["msg"]).removeprefix("Value error, ")
            if p["type"] == "value_error"
            else f"{'.'.join(map(str, (name, *p['loc'])))}={p['input']!r}: {p['msg']}"
            for p in error.errors()
        ]
        raise ValueError("\n".join(problems)) from None
