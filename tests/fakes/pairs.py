"""A small task of one round, and the same for one agent."""

PAIR = """
from madrigal import SingleRound
from madrigal.types import Example


def seen(split):
    return [Example(f"{split}-{n}", {"word": f"word{n}"}) for n in range(3)]


def prompt(example, agent):
    return f"{agent}, say {example.data['word']}."


def reward(example, said):
    return sum(example.data["word"] in text for text in said.values()) / len(said)


task = SingleRound("pair", ("ann", "bob"), seen("train"), seen("test"), prompt, reward)
"""
SINGLE = (
    PAIR
    + """
single = SingleRound("pair by one", ("ann",), seen("train"), seen("test"), prompt, reward)
"""
)
