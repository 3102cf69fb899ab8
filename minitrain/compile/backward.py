"""The walk back through a graph: which gradients there are, where the parts of each lie, what may share memory."""

from __future__ import annotations

from collections.abc import Collection

from minitrain.compile.requests import Builder, Request, Step, Sum
from minitrain.graph.graph import output_values
from minitrain.layer import Declaration, Spec

__all__ = ["Backward", "share_memory"]


class Backward:
    """Asks for the arrays of the backward calls, last layer first.

    Parameters
    ----------
    builder : Builder
        That has walked forward.
    input_gradients : bool
        Whether the gradients of the inputs are wanted.

    Attributes
    ----------
    parts : name of a value to the gradients that its readers, and the losses, have found of it so far
    """

    def __init__(self, builder: Builder, input_gradients: bool) -> None:
        self._builder = builder
        self._needed = _values_that_need_gradients(builder, input_gradients)
        self._written: set[str] = set()  # parameters whose gradient a step has written
        self.parts: dict[str, list[Request]] = {}

    def schedule(self, step: Step, time: int) -> None:
        """Ask for what the backward call of a layer needs, which runs at this time, unless there is nothing to do."""
        declaration, node = step.declaration, step.node
        parts = self._parts_of_outputs(step)
        learned = [name for name in declaration.params if node.variable(name) not in self._builder.graph.frozen]
        wanted = [value in self._needed for value in node.inputs]
        step.dxs = [None] * len(step.xs)
        if not any(parts.values()) or not (learned or any(wanted)):
            return
        step.works_backward = True
        for name, found in parts.items():
            step.gradients[name] = self._total(step, found, declaration.outputs[name], time)
        self._keep_what_is_read(step, time)
        if learned and not node.layer.learns:
            raise ValueError(
                f"{node.name}: {type(node.layer).__name__} stands for frozen layers, got {learned} to learn"
            )
        for name in learned:
            variable = node.variable(name)
            shared = variable in self._written  # another call of the same layer writes it: this part is added to that
            spec = Spec(declaration.params[name].shape, declaration.params[name].dtype)
            step.dparams[name] = self._builder.request(spec, time) if shared else None
            self._written.add(variable)
        self._add_input_gradients(step, wanted, time)

    def _parts_of_outputs(self, step: Step) -> dict[str, list[Request]]:
        """The gradients that were found of each output that has one."""
        values = zip(step.declaration.outputs.items(), output_values(step.node, step.declaration), strict=True)
        return {name: self.parts.pop(value, []) for (name, spec), value in values if spec.gradient}

    def _keep_what_is_read(self, step: Step, time: int) -> None:
        declaration = step.declaration
        for read in (*_read_backward(step), *(step.local[name] for name in declaration.saved)):
            read.use(time)
        for name, spec in declaration.backward_scratch.items():
            step.local[name] = self._builder.request(spec, time)

    def _add_input_gradients(self, step: Step, wanted: list[bool], time: int) -> None:
        declaration = step.declaration
        dys = {f"d{name}": dy for name, dy in step.gradients.items()}
        for index, value in enumerate(step.node.inputs):
            if not wanted[index]:
                continue
            same = dys.get(declaration.same.get(f"dx{index}", ""))
            dx = self._builder.request(self._builder.specs[value], time, same)
            found = self.parts.setdefault(value, [])
            if declaration.adds_gradient and found:
                step.dx_before = found.pop()
                step.dx_before.use(time)
            found.append(dx)
            step.dxs[index] = dx

    def _total(self, step: Step, parts: list[Request], spec: Spec, time: int) -> Request:
        """Return the gradient of an output: the only part, or the sum of all, made one tick before it is read.

        No part at all makes zeros: another output of the layer is what a loss depends on.
        """
        if len(parts) == 1:
            total = parts[0]
        else:
            total = self._builder.request(spec, time - 1)
            for part in parts:
                part.use(time - 1)
            step.sums.append((total, parts))
        total.use(time)
        return total

    def input_gradients(self, end: int) -> dict[str, Sum]:
        """Return the sums that the gradients of the inputs are; they are made at the end, after all calls."""
        sums = {}
        for name in self._builder.graph.inputs:
            spec = self._builder.specs[name]
            if spec.gradient:
                parts = self.parts.get(name, [])
                total = parts[0] if len(parts) == 1 else self._builder.request(spec, end)
                for each in (*parts, total):
                    each.use(end)
                sums[name] = total, parts
        return sums

    def unreached(self) -> list[str]:
        """Return the learned parameters whose gradient no step writes: it is zero."""
        steps, frozen = self._builder.steps, self._builder.graph.frozen
        names = dict.fromkeys(step.node.variable(name) for step in steps for name in step.declaration.params)
        return [name for name in names if name not in self._written and name not in frozen]


def share_memory(step: Step, time: int, kept: Collection[Request]) -> None:
    """Put gradients of inputs, where the layer says it may, over arrays that are read last when these are written.

    Not over `kept` ones, and not over one that the layer also reads as something else.
    """
    arrays = {f"x{index}": x for index, x in enumerate(step.xs)} | {f"d{n}": dy for n, dy in step.gradients.items()}
    read = [*_read_backward(step), *step.gradients.values(), *([step.dx_before] if step.dx_before else [])]
    owners = {each.owner() for each in kept}
    for name, others in step.declaration.may_share.items():
        dx = step.dxs[int(name.removeprefix("dx"))]
        for other in (arrays[each] for each in others if each in arrays):
            if dx is None or dx.view_of is not None:
                break
            owner = other.owner()
            read_as_another = any(each is not other and each.owner() is owner for each in read)
            if owner.last == time and owner not in owners and not read_as_another:
                dx.view_of = other
                other.use(dx.last)


def _read_backward(step: Step) -> list[Request]:
    """The inputs and outputs that the layer's backward call reads."""
    declaration: Declaration = step.declaration
    inputs = [x for index, x in enumerate(step.xs) if declaration.reads_input(index)]
    return inputs + [output for name, output in step.outputs.items() if name in declaration.backward_reads]


def _values_that_need_gradients(builder: Builder, input_gradients: bool) -> set[str]:
    """Return the values that learned parameters, or wanted inputs, lie behind."""
    graph = builder.graph
    needed = {name for name, spec in graph.inputs.items() if spec.gradient} if input_gradients else set()
    for node in graph.nodes:
        declaration = builder.declarations[node.name]
        learned = any(node.variable(name) not in graph.frozen for name in declaration.params)
        if learned or any(value in needed for value in node.inputs):
            values = zip(output_values(node, declaration), declaration.outputs.values(), strict=True)
            needed.update(value for value, spec in values if spec.gradient)
    return needed
