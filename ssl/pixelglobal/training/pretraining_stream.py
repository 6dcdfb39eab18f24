"""The slices of a pre-training, drawn as its method asks for."""

from __future__ import annotations

from pixelglobal.config.registry import method_class
from pixelglobal.config.schema import Config
from pixelglobal.data.partitioned_stream import PartitionedStream
from pixelglobal.data.pool import Scans
from pixelglobal.data.stream import LocalStream, MixedStream, Stream
from pixelglobal.training.pretrain import pretraining_cases


def pretraining_stream(
    config: Config, scans: Scans, mixed: type[MixedStream] = LocalStream, *, rank: int = 0, world_size: int = 1
) -> Stream:
    """The batches of one of several workers, who share `pretrain.batch_size`.

    mixed: how slices that are drawn alone are read; groups of slices of a scan are read from the worker's disk.
    """
    cases, parts = pretraining_cases(config, scans), method_class(config.pretrain.method).slices_of_a_scan(config)
    batch_size, seed = config.pretrain.batch_size // world_size, config.pretraining_seed
    if parts > 1:
        return PartitionedStream(
            scans, cases, n_partitions=parts, batch_size=batch_size, seed=seed, rank=rank, world_size=world_size
        )
    return mixed(scans, cases, batch_size=batch_size, seed=seed, rank=rank, world_size=world_size)
