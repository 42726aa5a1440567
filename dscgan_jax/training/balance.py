"""Whether one of the two networks has lost the other for good: then the adversarial loss teaches nothing any more."""

import collections
from collections.abc import Callable, Iterable, Mapping

LONG = 20  # rows of the log in a row; healthy runs came to 7 of `LOST`, to none of `WON`
ALWAYS = 0.98  # of the score map judged rightly, of real maps and of fake ones
NEVER = 0.02  # accuracies of real and fake maps that add up to 1 this closely: every map is judged alike
WON, LOST = "discriminator_won", "discriminator_lost"  # columns of `metrics.jsonl`, in the rows of which it holds
IN_WORDS = {
    WON: "the discriminator tells all real maps from all fake ones, so its loss teaches the generator nothing",
    LOST: "the discriminator judges real and fake maps alike, so its loss teaches the generator nothing",
}
ADVICE = (
    "what is learned now is learned from the L1 loss. Try another config.train.discriminator_learning_rate, or the "
    "objective l1"
)


class Balance:
    """Follows the accuracies of the discriminator from row to row of `metrics.jsonl`."""

    def __init__(self, before: Iterable[Mapping[str, float]] = (), tell: Callable[[str], None] = lambda _: None):
        """Goes on from the rows of a run that was stopped.

        Args:
          before: its rows.
          tell: receives a line when one network begins to have lost the other.
        """
        self._pairs: collections.deque[tuple[float, float]] = collections.deque(maxlen=LONG)
        self._tell, self._told = lambda _: None, set[str]()
        for row in before:
            self.add(int(row["step"]), row)
        self._tell = tell

    def add(self, step: int, row: Mapping[str, float]) -> dict[str, float]:
        """What the row of a step holds besides: `{WON: 1.0}` or `{LOST: 1.0}` where that is so, mostly nothing."""
        if "accuracy_real" not in row:
            return {}
        self._pairs.append((row["accuracy_real"], row["accuracy_fake"]))
        if len(self._pairs) < LONG:
            return {}
        found = {
            WON: all(min(pair) >= ALWAYS for pair in self._pairs),
            LOST: all(abs(sum(pair) - 1) <= NEVER for pair in self._pairs),
        }
        names = [name for name, holds in found.items() if holds]
        for name in set(names) - self._told:
            self._told.add(name)
            self._tell(f"warning: step {step}: {IN_WORDS[name]} for {LONG} rows of the log; {ADVICE}.")
        return dict.fromkeys(names, 1.0)


def sentences(rows: Iterable[Mapping[str, float]]) -> list[str]:
    """What a page says of a whole run; empty for a healthy one."""
    rows = list(rows)
    steps = {name: [int(row["step"]) for row in rows if name in row] for name in IN_WORDS}
    return [
        f"Training: {IN_WORDS[name]}, from step {found[0]} to step {found[-1]}; {ADVICE}."
        for name, found in steps.items()
        if found
    ]
