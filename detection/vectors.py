"""Sixteen float32 at a time in Numba kernels, for loops that the compiler does not vectorise by itself.

`load`, `spread` and `zeros` make a vector, `store` writes one, `+`, `-`, `*` and `maximum` compute with it. Where a
processor's registers are shorter, the compiler splits the vectors.
"""

import operator
from collections.abc import Callable
from typing import Any, cast

import llvmlite.binding
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel.models import PrimitiveModel
from numba.extending import intrinsic, overload, register_model

LANES = 16

# As many sums as fit into the processor's vector registers beside what is multiplied: 24 of 32 registers with AVX-512,
# 12 of 16 with AVX2, 24 of 32 with NEON.
_WIDE_REGISTERS = llvmlite.binding.get_host_cpu_features().get("avx512f", False)
BLOCK_ROWS, BLOCK_COLUMNS = (12, 32) if _WIDE_REGISTERS else (6, 16)

_FLOAT = ir.FloatType()
_FLOATS = ir.VectorType(_FLOAT, LANES)
_WORDS = ir.VectorType(ir.IntType(32), LANES)
_HALVES = ir.VectorType(ir.IntType(16), LANES)
_CONTRACT = ("contract",)


class _Vector(types.Type):
    """Numba's type of sixteen float32."""

    def __init__(self) -> None:
        super().__init__(name="Float32x16")


@register_model(_Vector)
class _VectorModel(PrimitiveModel):  # type: ignore[misc]  # Numba has no types
    def __init__(self, manager: Any, vector: _Vector) -> None:
        super().__init__(manager, vector, _FLOATS)


_VECTOR = _Vector()


def _instruction(define: Callable[..., Any]) -> Callable[..., Any]:
    """Make what returns a signature and a generator of LLVM instructions callable in kernels."""
    return cast(Callable[..., Any], intrinsic(define))


@_instruction
def load(typing: Any, array: Any, index: Any) -> Any:
    """Sixteen neighbours of a flat float32 array from `index` on, or of a uint16 array that holds bfloat16."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if array.dtype == types.float32:
            return builder.load(_pointer(context, builder, array, *arguments, to=_FLOATS), align=4)
        upper = builder.load(_pointer(context, builder, array, *arguments, to=_HALVES), align=2)
        words = builder.shl(builder.zext(upper, _WORDS), ir.Constant(_WORDS, [16] * LANES))
        return builder.bitcast(words, _FLOATS)

    return _VECTOR(array, types.intp), generate


@_instruction
def prefetch(typing: Any, array: Any, index: Any) -> Any:
    """Have a number of a flat array brought near that is read soon; `index` may lie outside of the array."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word, byte = ir.IntType(32), ir.IntType(8)
        kind = ir.FunctionType(ir.VoidType(), [byte.as_pointer(), word, word, word])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        reading, second_level, data = word(0), word(2), word(1)
        address = _pointer(context, builder, array, *arguments, to=byte)
        builder.call(function, [address, reading, second_level, data])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@_instruction
def store(typing: Any, array: Any, index: Any, vector: Any) -> Any:
    """Write sixteen neighbours of a flat float32 array."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[2], _pointer(context, builder, array, *arguments[:2], to=_FLOATS), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, _VECTOR), generate


@_instruction
def spread(typing: Any, number: Any) -> Any:
    """Make sixteen times the same number."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _spread(builder, arguments[0])

    return _VECTOR(types.float32), generate


@_instruction
def maximum(typing: Any, a: Any, b: Any) -> Any:
    """Return the larger one in each of the sixteen places; NaN where `a` is NaN."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, b = arguments
        return builder.select(builder.fcmp_unordered(">", a, b), a, b)

    return _VECTOR(_VECTOR, _VECTOR), generate


@_instruction
def total(typing: Any, vector: Any) -> Any:
    """Return the sum of the sixteen."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (sums,) = arguments
        for half in (8, 4, 2, 1):
            lanes = [(lane + half) % LANES for lane in range(LANES)]
            sums = builder.fadd(sums, builder.shuffle_vector(sums, sums, ir.Constant(_WORDS, lanes)))
        return builder.extract_element(sums, ir.Constant(ir.IntType(32), 0))

    return types.float32(_VECTOR), generate


@_instruction
def widened(typing: Any, number: Any) -> Any:
    """Return a float32 as it is, a uint16 that holds a bfloat16 as float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (value,) = arguments
        if number == types.float32:
            return value
        word = ir.IntType(32)
        return builder.bitcast(builder.shl(builder.zext(value, word), word(16)), _FLOAT)

    return types.float32(number), generate


@_instruction
def multiply_block(typing: Any, a: Any, a0: Any, stride: Any, b: Any, b0: Any, c: Any, c0: Any, depth: Any) -> Any:
    """Overwrite C = A B, with C small enough to stay in registers meanwhile.

    Parameters
    ----------
    a, a0, stride : flat float32 array, int, int
        A (BLOCK_ROWS, depth) begins at `a0`, its rows are `stride` numbers apart.
    b, b0 : flat float32 array, int
        B (depth, BLOCK_COLUMNS) begins at `b0`, its rows follow each other.
    c, c0 : flat float32 array, int
        C (BLOCK_ROWS, BLOCK_COLUMNS) begins at `c0`, its rows follow each other.
    depth : int
        At least 1.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a_array, a_start, a_stride, b_array, b_start, c_array, c_start, count = arguments
        intp = context.get_value_type(types.intp)
        first = _pointer(context, builder, a, a_array, a_start, to=_FLOAT)
        rows = [builder.gep(first, [builder.mul(a_stride, intp(row))]) for row in range(BLOCK_ROWS)]
        columns = _pointer(context, builder, b, b_array, b_start, to=_FLOATS)
        blocks = BLOCK_COLUMNS // LANES
        before, loop, after = builder.block, builder.append_basic_block(), builder.append_basic_block()
        builder.branch(loop)
        builder.position_at_end(loop)
        k = builder.phi(intp)
        k.add_incoming(intp(0), before)
        sums = [builder.phi(_FLOATS) for _ in range(BLOCK_ROWS * blocks)]
        line = [builder.gep(columns, [builder.add(builder.mul(k, intp(blocks)), intp(j))]) for j in range(blocks)]
        right = [builder.load(address, align=4) for address in line]
        grown: list[Any] = []
        for row in rows:
            left = _spread(builder, builder.load(builder.gep(row, [k])))
            for vector in right:
                product = builder.fmul(left, vector, flags=_CONTRACT)
                grown.append(builder.fadd(sums[len(grown)], product, flags=_CONTRACT))
        for value, larger in zip(sums, grown, strict=True):
            value.add_incoming(ir.Constant(_FLOATS, [0.0] * LANES), before)
            value.add_incoming(larger, loop)
        following = builder.add(k, intp(1))
        k.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, count), loop, after)
        builder.position_at_end(after)
        target = _pointer(context, builder, c, c_array, c_start, to=_FLOATS)
        for i, value in enumerate(grown):
            builder.store(value, builder.gep(target, [intp(i)]), align=4)
        return context.get_dummy_value()

    return types.void(a, types.intp, types.intp, b, types.intp, c, types.intp, types.intp), generate


def _pointer(context: Any, builder: Any, array: Any, value: Any, index: Any, *, to: Any) -> Any:
    """Address of a flat array's element, as one of another type."""
    data = context.make_array(array)(context, builder, value).data
    return builder.bitcast(builder.gep(data, [index]), to.as_pointer())


def _spread(builder: Any, number: Any) -> Any:
    undefined = ir.Constant(_FLOATS, ir.Undefined)
    alone = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(alone, undefined, ir.Constant(_WORDS, [0] * LANES))


def _define(operation: Callable[[Any, Any], Any], name: str) -> None:
    @_instruction
    def compute(typing: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, name)(*arguments)

        return _VECTOR(_VECTOR, _VECTOR), generate

    def implementation(a: Any, b: Any) -> Any:
        return compute(a, b)

    def choose(a: Any, b: Any) -> Any:
        return implementation if isinstance(a, _Vector) and isinstance(b, _Vector) else None

    overload(operation)(choose)


for _operation, _name in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul")):
    _define(_operation, _name)
