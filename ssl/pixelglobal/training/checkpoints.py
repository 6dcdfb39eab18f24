"""Weights on disk: tensors in safetensors, everything else in JSON, nothing that runs code when it is read.

Two artefacts: a *training state* (everything that resuming needs, in a folder named for its step, with digests that
`sha256sum -c` understands) and a *model* (named weights with the facts a user of them must know: network,
normalisation, structures, method, citation).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pixelglobal.files import digest_of, read_json_object, write_folder

WEIGHTS_DIGEST = "weights_sha256"  # in model.json, of model.safetensors
LEAST_MATCHED = 0.9  # share of a part's tensors that must match before transferred weights are trusted


DIGESTS = "SHA256SUMS"


def _write_folder(
    folder: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], name: str, *, with_digests: bool = False
) -> None:
    """Write NAME.safetensors and NAME.json into a folder that appears complete or not at all."""
    copies = {key: value.detach().contiguous().cpu().clone() for key, value in tensors.items()}
    with write_folder(folder) as scratch:
        try:
            save_file(copies, scratch / f"{name}.safetensors")
        except SafetensorError as error:
            raise OSError(str(error)) from error  # what the disk said, as every other writer says it
        digest = {WEIGHTS_DIGEST: digest_of(scratch / f"{name}.safetensors")} if name == "model" else {}
        (scratch / f"{name}.json").write_text(json.dumps({**facts, **digest}, indent=2) + "\n")
        if with_digests:
            lines = [f"{digest_of(path)}  {path.name}\n" for path in sorted(scratch.iterdir())]
            (scratch / DIGESTS).write_text("".join(lines))


def save_training_state(
    folder: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer, facts: Mapping[str, Any]
) -> Path:
    """Everything that an exact resume needs: modules with their buffers, optimiser, counters (`facts`, JSON values)."""
    tensors = {f"{name}/{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    state = optimizer.state_dict()
    plain: dict[str, dict[str, Any]] = {}
    for index, entries in state["state"].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{index}/{key}"] = value
            else:
                plain.setdefault(str(index), {})[key] = value
    optimizer_facts = {"groups": state["param_groups"], "plain": plain}
    _write_folder(folder, tensors, {**facts, "optimizer": optimizer_facts}, "state", with_digests=True)
    return folder


def training_states(folder: Path) -> list[Path]:
    """The training states in a folder, the newest last."""
    return sorted(folder.glob("step_*"))


def newest_intact_state(folder: Path) -> Path | None:
    """The newest training state in a folder whose files are as they were written; each damaged one is warned of."""
    for state in reversed(training_states(folder)):
        if (damage := _damage(state)) is None:
            return state
        warnings.warn(
            f"the checkpoint {state} is damaged ({damage}); the training goes on from the one before it", stacklevel=3
        )
    return None


def _damage(state: Path) -> str | None:
    """What is wrong with the files of a training state; None if they are as they were written."""
    try:
        lines = [line.split() for line in (state / DIGESTS).read_text().splitlines()]
        digests = {name: digest for digest, name in lines}
        if set(digests) != {"state.json", "state.safetensors"}:
            return f"{DIGESTS} should list state.json and state.safetensors"
        changed = [name for name, digest in digests.items() if digest_of(state / name) != digest]
    except (OSError, ValueError) as error:
        return str(error)
    return f"{' and '.join(changed)} changed since it was written" if changed else None


def load_training_state(
    folder: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Restore what `save_training_state` wrote, in place; returns its facts."""
    facts = read_json_object(folder / "state.json")
    tensors = load_file(folder / "state.safetensors")
    for name, module in modules.items():
        prefix = f"{name}/"
        module.load_state_dict({k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)})
    saved = facts.pop("optimizer")
    state: dict[int, dict[str, Any]] = {int(i): dict(entries) for i, entries in saved["plain"].items()}
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            _, index, entry = key.split("/")
            state.setdefault(int(index), {})[entry] = value
    optimizer.load_state_dict({"state": state, "param_groups": saved["groups"]})
    return facts


def save_model(folder: Path, modules: Mapping[str, nn.Module], facts: Mapping[str, Any]) -> Path:
    """Weights for users: keys are `<module name>.<its own key>`; `facts` go to model.json."""
    tensors = {f"{name}.{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    _write_folder(folder, tensors, facts, "model")
    return folder


def model_folder(folder: Path) -> Path:
    """The model folder of a run, or the folder itself.

    >>> model_folder(Path("runs/ft"))  # where there is none, the error of reading names what was given
    PosixPath('runs/ft')
    """
    inner = folder / "model"
    return inner if not (folder / "model.json").is_file() and (inner / "model.json").is_file() else folder


def require_model(folder: Path) -> Path:
    """The model folder of a run, or the folder itself. Raises ValueError if it holds no model."""
    folder = model_folder(folder)
    for name in ("model.safetensors", "model.json"):
        if not (folder / name).is_file():
            raise ValueError(
                f"{folder} holds no model: {name} is missing. Expected the folder of a run that "
                "`pixelglobal pretrain` or `pixelglobal finetune` wrote, or its `model` folder"
            )
    return folder


def read_model(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts of a run or of its model folder; a clear error when it is none."""
    folder = require_model(folder)
    weights, facts = folder / "model.safetensors", folder / "model.json"
    try:
        said = json.loads(facts.read_text())
        if said.pop(WEIGHTS_DIGEST, None) not in (None, digest_of(weights)):  # an older version kept none
            raise ValueError(f"{weights} is not what {WEIGHTS_DIGEST} in model.json says, it was damaged")
        return load_file(weights), said
    except Exception as error:
        raise ValueError(f"cannot read the model in {folder}: {error}; copy it again or train it again") from error


@dataclass(frozen=True)
class TransferReport:
    """How much of a network came from a file."""

    matched: int
    total: int
    unmatched: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.matched} of {self.total} tensors transferred"


def transfer(folder: Path, source: str, parts: Mapping[str, nn.Module]) -> TransferReport:
    """Copy weights and buffers of `source` ("student" or "teacher") into parts, such as {"encoder": net.encoder}.

    Raises ValueError when less than 90 % of a part's tensors are found with the same shape: it is another network.
    """
    tensors, facts = read_model(folder)
    if not any(key.startswith(f"{source}.") for key in tensors):
        kept = ", ".join(sorted({key.partition(".")[0] for key in tensors}))
        raise ValueError(f"{folder} holds no {source}; it has: {kept}. Set finetune.transfer_from to one of them")
    matched, unmatched = 0, []
    for part, module in parts.items():
        state = module.state_dict()
        saved = {key: tensors.get(f"{source}.{part}.{key}") for key in state}
        matching = {k: value for k, value in saved.items() if value is not None and value.shape == state[k].shape}
        missing = [f"{part}.{key}" for key in state if key not in matching]
        if len(matching) < LEAST_MATCHED * len(state):
            network = facts.get("network", {})
            raise ValueError(
                f"{folder}: only {len(matching)} of {len(state)} tensors of the {part} match; at least "
                f"{LEAST_MATCHED:.0%} are expected. The file holds {network.get('encoder')!r} with decoder "
                f"widths {network.get('decoder_widths')}; first tensors without a match: {', '.join(missing[:3])}. "
                "Use the same network settings as in pre-training"
            )
        module.load_state_dict(matching, strict=False)
        matched += len(matching)
        unmatched += missing
    return TransferReport(matched, matched + len(unmatched), tuple(unmatched))
