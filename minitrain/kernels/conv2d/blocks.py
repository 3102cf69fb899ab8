"""Blocks of a weight gradient: which channels, outputs and images a task is for."""

from typing import NamedTuple

from nbnorm.jit import device

__all__ = ["Block", "block_of"]


class Block(NamedTuple):
    """Channels [channel, channel + channels) and outputs [out, out + outs) of a group, over a chunk of the images."""

    chunk: int
    group: int
    channel: int
    channels: int
    out: int
    outs: int


@device
def block_of(task, cut):
    """The block of this number, of a record with `problem` and `blocks`: those of a chunk follow each other."""
    problem, blocks = cut.problem, cut.blocks
    out_blocks = (problem.outs + blocks.outs - 1) // blocks.outs
    channel_blocks = (problem.channels + blocks.channels - 1) // blocks.channels
    task, out = task // out_blocks, task % out_blocks * blocks.outs
    task, channel = task // channel_blocks, task % channel_blocks * blocks.channels
    channels, outs = min(blocks.channels, problem.channels - channel), min(blocks.outs, problem.outs - out)
    return Block(task // problem.groups, task % problem.groups, channel, channels, out, outs)
