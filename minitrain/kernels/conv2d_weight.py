"""The kernel of the weight gradient: products of packed planes with dy, summed over pixels in register tiles.

The lanes of a vector are pixels, so that a sum is a vector until the very end. Each chunk of images (a matter of
shapes, not of threads) makes partial sums, which are added in the order of the chunks.
"""

from functools import cache

from minitrain.kernels.conv2d_pack import pack
from nbnorm._jit import Kernel, device, kernel, prange
from nbnorm.simd.lanes import load_between, sum_lanes
from nbnorm.simd.tiles import make_tile
from nbnorm.simd.vectors import flat, lanes_of, store

__all__ = ["weight_gradient_kernel"]


@device
def _pack_panel(dy, at, pitch, rows, outs, image_pitch, images, lines, stride, pixels, panel, to):
    """dy[at:] as [tile of outputs][image][line][vector of pixels][row of the tile]; lanes beyond a line's end are 0."""
    lanes = lanes_of(panel)
    for k in range(0, outs, rows):
        for n in range(images):
            for line in range(lines):
                start = at + min(k, outs - rows) * pitch + n * image_pitch + line * stride
                for v in range(0, pixels, lanes):
                    for r in range(rows):
                        store(panel, to + r * lanes, load_between(dy, start + r * pitch + v, 0, pixels - v))
                    to += rows * lanes


@cache
def weight_gradient_kernel(rows: int, columns: int) -> Kernel:
    """The kernel for tiles of `rows` outputs by `columns` pairs of a channel and a tap."""
    tile = make_tile(rows, columns)
    zero, load, tile_store, tile_offsets = tile.zero, tile.load, tile.store, tile.offsets
    add_products, add_products_between = tile.add_products, tile.add_products_between

    @device
    @tile.named
    def add_block(memory, x, base, pitch, panel, sums, offsets, outs, pairs, images, lines, stride, pixels, fresh):
        """Add `pixels` pixels of so many lines of every image to the sums memory[sums:], or begin them."""
        lanes = lanes_of(memory)
        whole = pixels // lanes * lanes
        for _ in range(0, outs, rows):
            for m in range(0, pairs, columns):
                acc = zero(memory) if fresh else load(memory, sums)
                pair_offsets = tile_offsets(offsets, max(0, min(m, pairs - columns)))
                a = panel
                for n in range(images):
                    for line in range(lines):
                        b = base + n * pitch + line * stride
                        for v in range(0, whole, lanes):
                            acc = add_products(acc, memory, a, x, pair_offsets, b + v)
                            a += rows * lanes
                        if whole < pixels:
                            acc = add_products_between(acc, memory, a, x, pair_offsets, b + whole, pixels - whole)
                            a += rows * lanes
                tile_store(acc, memory, sums)
                sums += rows * columns * lanes
            panel += images * lines * ((pixels + lanes - 1) // lanes) * rows * lanes

    @device
    @tile.named
    def write_sums(memory, sums, outs, pairs, to, pitch):
        """Add up the lanes of every sum: pair m of output k into memory[to + k * pitch + m]."""
        lanes = lanes_of(memory)
        for k in range(0, outs, rows):
            for m in range(0, pairs, columns):
                place = to + min(k, outs - rows) * pitch + max(0, min(m, pairs - columns))
                for r in range(rows):
                    for c in range(min(columns, pairs)):
                        memory[place + r * pitch + c] = sum_lanes(memory, sums + (r * columns + c) * lanes)
                sums += rows * columns * lanes

    @device
    @tile.named
    def sum_task(task, taps, problem, planes, steps, lines, blocks, places, shifts, offsets, dy, source, scratch, at):
        """One block of channels and outputs of one group over one chunk of images; scratch[at:] is the worker's own."""
        images, groups, channels, outs, _ = problem
        height, width, out_height, out_width = planes
        row_step, column_step, row_copies, slots, packed_width, direct = steps
        line_count, line_length, line_stride = lines
        chunks, image_block, line_block, pixel_block, channel_block, out_block = blocks
        out_blocks = (outs + out_block - 1) // out_block
        task, first_out = task // out_blocks, task % out_blocks * out_block
        channel_blocks = (channels + channel_block - 1) // channel_block
        task, first_channel = task // channel_blocks, task % channel_blocks * channel_block
        chunk, group = task // groups, task % groups
        used = min(channel_block, channels - first_channel)
        used_outs = min(out_block, outs - first_out)
        pixels = out_height * out_width
        pitch = channel_block * row_copies * (shifts.size - row_copies) * slots * packed_width
        panel, sums = at + places[2], at + places[3]
        last = (chunk + 1) * images // chunks
        x = source
        fresh = True
        for n in range(chunk * images // chunks, last, image_block):
            count = min(image_block, last - n)
            x_at = ((n * groups + group) * channels + first_channel) * height * width
            x_pitch = groups * channels * height * width
            if not direct:
                for i in range(count):
                    pack(source, x_at + i * x_pitch, height, width, used, 0, slots, packed_width, row_step, column_step,
                         shifts, row_copies, scratch, at + i * pitch)  # fmt: skip
                x, x_at, x_pitch = scratch, at, pitch
            start = ((n * groups + group) * outs + first_out) * pixels
            for line in range(0, line_count, line_block):
                some = min(line_block, line_count - line)
                for p in range(0, line_length, pixel_block):
                    size = min(pixel_block, line_length - p)
                    _pack_panel(dy, start + line * line_length + p, pixels, rows, used_outs, groups * outs * pixels,
                                count, some, line_length, size, scratch, panel)  # fmt: skip
                    add_block(scratch, x, x_at + line * line_stride + p, x_pitch, panel, sums, offsets, used_outs,
                              used * taps, count, some, line_stride, size, fresh)  # fmt: skip
                    fresh = False
        to = ((chunk * groups + group) * outs + first_out) * channels + first_channel
        write_sums(scratch, sums, used_outs, used * taps, to * taps, channels * taps)

    def sum_products(problem, planes, steps, lines, blocks, places, shifts, offsets, dy, x, scratch, dweight):
        taps = dweight.shape[2] * dweight.shape[3]
        dy, x, scratch, dweight = flat(dy), flat(x), flat(scratch), flat(dweight)
        _, groups, channels, outs, workers = problem
        chunks, _, _, _, channel_block, out_block = blocks
        tasks = chunks * groups * ((channels + channel_block - 1) // channel_block)
        tasks *= (outs + out_block - 1) // out_block
        for worker in prange(workers):
            for task in range(worker * tasks // workers, (worker + 1) * tasks // workers):
                sum_task(task, taps, problem, planes, steps, lines, blocks, places, shifts, offsets, dy, x, scratch,
                         places[0] + worker * places[1])  # fmt: skip
        size = channels * taps
        for row in prange(groups * outs):
            for i in range(row * size, (row + 1) * size):
                dweight[i] = scratch[i]
            for chunk in range(1, chunks):
                for i in range(row * size, (row + 1) * size):
                    dweight[i] += scratch[chunk * dweight.size + i]

    return kernel(tile.named(sum_products))
