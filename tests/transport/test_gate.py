"""The gate: the most urgent first, in order among equals, never more at once than there are places (T23)."""

import asyncio

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.transport.line_rig import on_virtual_time
from transport.gate import Gate, Urgency


class _Holder:
    """Somebody who wants a turn and keeps it until told to go."""

    def __init__(self, gate: Gate, urgency: Urgency, order: list["_Holder"]) -> None:
        self.urgency = urgency
        self.go = asyncio.Event()
        self.task = asyncio.create_task(self._run(gate, order))

    async def _run(self, gate: Gate, order: list["_Holder"]) -> None:
        async with gate.turn(self.urgency):
            order.append(self)
            await self.go.wait()


class GateMachine(RuleBasedStateMachine):
    """A model: a sorted list of those who wait."""

    ROOM = 2

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.loop = self.runner.get_loop()
        self.gate = Gate(self.ROOM)
        self.order: list[_Holder] = []
        self.inside: list[_Holder] = []
        self.waiting: list[_Holder] = []

    def _settle(self, act=lambda: None):
        """Do something and let every task run until nothing moves."""

        async def main():
            result = act()
            for _ in range(8):
                await asyncio.sleep(0)
            return result

        return self.runner.run(main())

    def _admit(self) -> None:
        while len(self.inside) < self.ROOM and self.waiting:
            first = min(self.waiting, key=lambda one: one.urgency)  # min is stable: the first of equals
            self.waiting.remove(first)
            self.inside.append(first)

    @rule(urgency=st.sampled_from(Urgency))
    def ask(self, urgency):
        self.waiting.append(self._settle(lambda: _Holder(self.gate, urgency, self.order)))
        self._admit()

    @precondition(lambda self: self.inside)
    @rule(which=st.randoms(use_true_random=False))
    def leave(self, which):
        holder = which.choice(self.inside)
        self.inside.remove(holder)
        self._settle(holder.go.set)
        self._admit()

    @precondition(lambda self: self.waiting)
    @rule(which=st.randoms(use_true_random=False))
    def give_up(self, which):
        holder = which.choice(self.waiting)
        self.waiting.remove(holder)
        self._settle(holder.task.cancel)

    @invariant()
    def those_inside_are_those_of_the_model(self):
        inside = [holder for holder in self.order if not holder.task.done()]
        assert set(inside) == set(self.inside)
        assert len(inside) <= self.ROOM

    def teardown(self):
        async def main():
            for holder in [*self.inside, *self.waiting]:
                holder.task.cancel()
            await asyncio.gather(*(one.task for one in [*self.inside, *self.waiting]), return_exceptions=True)
            async with asyncio.timeout(1):
                async with self.gate.turn(Urgency.PART), self.gate.turn(Urgency.PART):
                    pass  # every place came back

        self.runner.run(main())
        self.runner.close()


TestGate = GateMachine.TestCase
TestGate.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@on_virtual_time
async def test_an_error_in_a_turn_gives_the_place_back():
    gate = Gate(1)
    for _ in range(3):
        try:
            async with gate.turn(Urgency.CALL):
                raise RuntimeError
        except RuntimeError:
            pass
    async with gate.turn(Urgency.TELEMETRY):
        pass


@on_virtual_time
async def test_a_place_given_to_one_who_gives_up_at_that_moment_goes_to_the_next():
    gate, order = Gate(1), []
    async with gate.turn(Urgency.KEYS):
        first, second = (_Holder(gate, Urgency.CALL, order) for _ in range(2))
        await asyncio.sleep(0)
    first.task.cancel()
    second.go.set()
    await asyncio.wait([second.task], timeout=1)
    assert second.task.done()
    assert order == [second]
    assert first.task.cancelled()


@on_virtual_time
async def test_among_equals_the_first_goes_first_and_the_urgent_before_all():
    gate, order = Gate(1), []

    async def go(name: str, urgency: Urgency) -> None:
        async with gate.turn(urgency):
            order.append(name)

    async with gate.turn(Urgency.KEYS):
        asked = [("part", 5), ("record 1", 3), ("record 2", 3), ("health", 4), ("call", 2), ("alarm", 1), ("keys", 0)]
        tasks = [asyncio.create_task(go(name, Urgency(urgency))) for name, urgency in asked]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert order == ["keys", "alarm", "call", "record 1", "record 2", "health", "part"]
