"""How helper and main cooperate: the four schemes of the paper, recognized from the syntax tree of main.

| scheme | aux | main |
|---|---|---|
| fallback | answers | calls it in a `try`, or checks its result, and has an answer of its own as a backup |
| decorator | answers | guards before the call, tidies arguments, or sorts, rounds, converts the result |
| coordinator | answers for pieces | divides the work, calls aux per piece, joins the results |
| strategy filter | decides | takes one branch or the other |

Several may hold. None holds where aux is not called, only wrapped or ignored, nor where main computes on from its
result by logic of its own: a division of labor that the four do not describe. The paper shows the schemes in examples
and has no recognizer; the rules are ours. docs/metrics.md has their precision and recall.

References:
    Liu et al., 2025, "LLM Collaboration with Multi-Agent Reinforcement Learning", arXiv:2508.04652.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from madrigal.tasks.coding.flow import Flow, finished, read_flow
from madrigal.tasks.coding.pieces import find_function
from madrigal.tasks.coding.program import AUX
from madrigal.tasks.coding.score import Fault
from madrigal.tasks.coding.syntax import loaded, name_of, parse, stored
from madrigal.tasks.coding.tree import CHOOSING, Comprehension, Loop, is_constant

MOST_NODES = 1500  # nodes of a main function, some 150 lines; the time to read one grows with the square at worst
IN_PLACE = frozenset({"sort", "reverse"})


def schemes(aux_code: str, main_code: str, entry_point: str) -> frozenset[str]:
    """Names the schemes by which a pair of programs cooperates.

    Empty where none does, a text does not parse, a function is missing, or main is longer than any answer should be.

    >>> aux = "def aux(c):\\n    return c.swapcase()"
    >>> sorted(schemes(aux, "def flip(s):\\n    return ''.join(aux(c) for c in s)", "flip"))
    ['coordinator']
    """
    if any(isinstance(parse(code), Fault) for code in (aux_code, main_code)):
        return frozenset()
    aux, main = find_function(aux_code, AUX), find_function(main_code, entry_point)
    return schemes_of(main.node) if aux and main and main.node else frozenset()


def schemes_of(main: ast.FunctionDef) -> frozenset[str]:
    """Names the schemes of a main function whose `aux` is known to be there; empty where it is too long."""
    if sum(1 for _ in ast.walk(main)) > MOST_NODES:
        return frozenset()
    try:
        flow = read_flow(main)
        return frozenset(name for name, holds in RULES.items() if holds(flow)) if flow else frozenset()
    except RecursionError:  # a sum of a thousand terms parses, and is as many levels deep
        return frozenset()


@dataclass(frozen=True, slots=True)
class Branch:
    """A place where main goes one way or another, and what each way delivers."""

    node: ast.AST
    test: ast.expr
    sides: tuple[list[ast.expr], ...]


def is_fallback(flow: Flow) -> bool:
    """Main has an answer of its own for where aux fails, or its result will not do."""
    for node in flow.tree.nodes:
        match node:
            case ast.Try(body=body, handlers=handlers) if flow.uses(*body):
                if any(not isinstance(handler.body[-1], ast.Raise) for handler in handlers):
                    return True
            case ast.With(items=items, body=body) if flow.uses(*body):
                managers = [item.context_expr for item in items]
                if any(isinstance(manager, ast.Call) and name_of(manager.func) == "suppress" for manager in managers):
                    return True
    return any(
        any(_keeps(flow, side) for side in branch.sides)
        and any(not _keeps(flow, side) and _computes(flow, side) for side in branch.sides)
        for branch in _branches(flow)
        if isinstance(branch.node, ast.If | ast.IfExp | ast.BoolOp)
    )


def is_decorator(flow: Flow) -> bool:
    """Aux answers for the whole, and main guards, tidies or finishes."""
    return _guards(flow) or _tidies(flow) or _finishes(flow)


def is_coordinator(flow: Flow) -> bool:
    """Aux answers for pieces: in a loop, by map, in a recursion, or in several calls whose results meet."""
    by_map = any(name_of(call.func) not in CHOOSING and not flow.tree.decides(call) for call in flow.applied)
    recursive = {flow.tree.statement(call) for call in flow.tree.recursive_calls()}
    return (
        by_map
        or any(_is_piecewise(flow, call) for call in flow.calls)
        or any(flow.carries(value) for value in _delivered(recursive))
        or any(len(flow.origins(value)) > 1 for value in _delivered([flow.tree.main]))
    )


def is_strategy_filter(flow: Flow) -> bool:
    """The verdict of aux chooses, and no way chosen uses it for anything else."""
    return any(
        not any(flow.carries(value) for side in branch.sides for value in side)
        and not any(_is_gathered(flow, name) for name in loaded(branch.test) & (flow.results | flow.verdicts))
        for branch in _branches(flow)
    )


RULES: dict[str, Callable[[Flow], bool]] = {
    "fallback": is_fallback,
    "decorator": is_decorator,
    "coordinator": is_coordinator,
    "strategy filter": is_strategy_filter,
}
SCHEMES = tuple(RULES)


def _branches(flow: Flow) -> Iterator[Branch]:
    """The branches whose test is about aux; what their sides deliver is looked up for no others."""
    for node in flow.tree.nodes:
        match node:
            case ast.If(test=test, body=body) if flow.is_about(test):
                yield Branch(node, test, (_delivered(body), _otherwise(flow, node)))
            case ast.While(test=test, body=body) if flow.is_about(test):
                yield Branch(node, test, (_delivered(body), _delivered(flow.tree.rest(node))))
            case ast.IfExp(test=test, body=one, orelse=other) if flow.is_about(test):
                yield Branch(node, test, ([one], [other]))
            case ast.BoolOp(op=ast.Or(), values=[first, *others]) if flow.is_about(first):
                if not flow.tree.decides(node):
                    yield Branch(node, first, ([first], others))
            case ast.Match(subject=test, cases=cases) if flow.is_about(test):
                yield Branch(node, test, tuple(_delivered(case.body) for case in cases))
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                items = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
                tests = (test for part in node.generators for test in part.ifs)
                yield from (Branch(node, test, (items,)) for test in tests if flow.is_about(test))
            case ast.Subscript() | ast.Call():
                yield from (Branch(node, test, ()) for test in flow.tree.deciding(node) if flow.is_about(test))


def _otherwise(flow: Flow, node: ast.If) -> list[ast.expr]:
    """What an `if` delivers where its test fails: the else part, what follows, or the result as it stands."""
    if node.orelse:
        return _delivered(node.orelse)
    if _exits(node.body):
        return _delivered(flow.tree.rest(node))
    return [ast.Name(name, ast.Load()) for name in stored(*node.body) & flow.results]


def _keeps(flow: Flow, side: list[ast.expr]) -> bool:
    return any(map(flow.is_result, side))


def _computes(flow: Flow, side: list[ast.expr]) -> bool:
    """Whether an answer is worked out without aux: more than a constant, a parameter, or one item of it."""
    return any(not flow.is_about(value) and _is_work(flow, value) for value in side)


def _is_work(flow: Flow, value: ast.expr) -> bool:
    match value:
        case ast.Name(id=name):
            return name in flow.tree.stored and name not in flow.tree.constants
        case ast.Subscript(value=ast.Name(), slice=index):
            return not is_constant(index)
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            return any(_is_work(flow, part) for part in parts)
    return not is_constant(value)


def _guards(flow: Flow) -> bool:
    """An edge case is met by a test not about aux, and aux is used on one side only; no base case of a recursion."""
    tree = flow.tree
    return not tree.recursive_calls() and any(
        _is_guard(flow, node) and not any(tree.repeats(node)) and not tree.decides(node) for node in tree.nodes
    )


def _is_guard(flow: Flow, node: ast.AST) -> bool:
    match node:
        case ast.If(test=test, body=body, orelse=orelse):
            other = orelse or (flow.tree.rest(node) if _exits(body) else [])
            return not flow.is_about(test) and flow.uses(*body) != flow.uses(*other)
        case ast.IfExp(test=test, body=one, orelse=other_value):
            return not flow.is_about(test) and flow.uses(one) != flow.uses(other_value)
        case ast.Assert(test=test):
            return not flow.is_about(test) and flow.uses(*flow.tree.rest(node))
        case ast.BoolOp(values=[*first, last]):
            return not any(map(flow.is_about, first)) and flow.uses(last)
        case ast.Match(subject=test, cases=cases):
            return not flow.is_about(test) and len({flow.uses(*case.body) for case in cases}) == 2
    return False


def _tidies(flow: Flow) -> bool:
    """A parameter is stripped, sorted, converted or swapped before aux is called with it."""
    arguments = [value for call in _whole(flow) for value in _arguments(call)]
    if any(_is_tidy(value) and not flow.is_about(value) for value in arguments):
        return True
    parameters = loaded(*arguments) & {node.arg for node in ast.walk(flow.tree.main.args) if isinstance(node, ast.arg)}
    for node in flow.tree.nodes:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in parameters and _is_tidy(value):
                return True
            case ast.If(test=test, body=body) if not flow.uses(*body) and stored(*body) & parameters:
                if not flow.is_about(test) and not any(flow.tree.repeats(node)):
                    return True
    return False


def _is_tidy(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and bool(finished(value))


def _finishes(flow: Flow) -> bool:
    """The result is finished on its way to the answer, or a check of it puts a constant in its place."""
    whole = flow.of(_whole(flow))
    answers = [n.value for n in flow.tree.nodes if isinstance(n, ast.Return | ast.Yield) and n.value is not None]
    names = loaded(*(value for value in answers if isinstance(value, ast.Name))) & whole.results
    values = [value for name in names for value in flow.tree.values[name]]
    if any(map(whole.is_finished, [*answers, *values])):
        return True
    for node in flow.tree.nodes:
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method)):
                if name in names and method in IN_PLACE:
                    return True
    return any(
        any(_keeps(whole, side) for side in branch.sides)
        and any(not _keeps(whole, side) and not any(_is_work(whole, v) for v in side) for side in branch.sides)
        for branch in _branches(whole)
        if not isinstance(branch.node, Loop | Comprehension)
    )


def _whole(flow: Flow) -> list[ast.Call]:
    """The calls that are made once, for a value."""
    return [call for call in flow.calls if not any(flow.tree.repeats(call)) and not flow.tree.decides(call)]


def _is_piecewise(flow: Flow, call: ast.Call) -> bool:
    """Whether a call is repeated with other arguments each time, and its results are gathered."""
    if flow.tree.decides(call):
        return False
    for loop in flow.tree.repeats(call):
        if loaded(*_arguments(call)) & stored(loop):
            statement = flow.tree.statement(call)
            names = stored(statement) if isinstance(statement, ast.Assign | ast.AnnAssign) else set()
            if isinstance(loop, Loop) and isinstance(statement, ast.Return):
                return False
            return not names or any(_is_gathered(flow, name) for name in names)
    return False


def _arguments(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(keyword.value for keyword in call.keywords)]


def _is_gathered(flow: Flow, name: str) -> bool:
    """Whether a name is read for more than a decision, and not just returned out of a loop."""
    tree = flow.tree
    return any(
        not tree.decides(node) and not (isinstance(tree.parents[node], ast.Return) and any(tree.repeats(node)))
        for node in tree.reads.get(name, ())
    )


def _delivered(trees: Iterable[ast.AST]) -> list[ast.expr]:
    """What statements return, yield, assign, or put into a container."""
    values = []
    for node in (node for tree in trees for node in ast.walk(tree)):
        match node:
            case (
                ast.Return(value=ast.expr() as value)
                | ast.Yield(value=ast.expr() as value)
                | ast.Assign(value=value)
                | ast.AnnAssign(value=ast.expr() as value)
                | ast.AugAssign(value=value)
                | ast.Expr(value=ast.Call(func=ast.Attribute(), args=[*_, value]))
            ):
                values.append(value)
    return values


def _exits(block: list[ast.stmt]) -> bool:
    """Whether control never passes the end of a block."""
    match block[-1]:
        case ast.Return() | ast.Raise() | ast.Continue() | ast.Break():
            return True
        case ast.If(body=body, orelse=[_, *_] as orelse):
            return _exits(body) and _exits(orelse)
    return False
