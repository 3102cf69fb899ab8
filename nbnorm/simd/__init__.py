"""SIMD vectors in kernels, as Numba intrinsics. Which file answers what:

=========================  ==========================================================================================
`vectors`                  what is a vector, how wide, its arithmetic, loads and stores of all lanes
`masks`                    part of a vector: load, store or take only some lanes (tails of rows, strides of 2)
`bits`                     the same for lanes whose bit is set in an integer
`memory`                   one element, prefetches, stores past the caches, views of arrays that count no references
`shuffles`                 lanes that change places, sums over lanes
`widening`                 sums in float64 of vectors of float32
`transpose`                squares of lanes x lanes values on their way from one array to another
`exponentials`             exp, the logistic function and tanh of vectors; exp of one float64
`transforms`               linear transforms of small squares of vectors (Winograd)
`tiles`                    blocks of vectors that stay in registers across a sum (matrix products, convolutions)
`pooling`                  maxima of windows: `windows` of any width, `halving` of 2x2 in planes of few columns
=========================  ==========================================================================================

All functions that do not begin with `emit_` or `make_` are called from kernels only. They work for float32 and float64.
Arrays are one-dimensional and contiguous; loads and stores need no alignment and check no bounds. `emit_...` write the
LLVM code of a piece that several intrinsics share; `make_...` make intrinsics for a shape.
"""
