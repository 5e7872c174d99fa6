"""The words of the posts corpus: data only."""

from __future__ import annotations

RELATIONS = (
    "sister", "brother", "roommate", "boss", "boyfriend", "girlfriend", "best friend", "cousin",
    "neighbor", "coworker", "mother", "father", "landlord", "uncle", "aunt", "classmate",
)  # fmt: skip
WOMEN = frozenset({"sister", "girlfriend", "mother", "aunt"})
MEN = frozenset({"brother", "boyfriend", "father", "uncle"})
NAMES = {
    "she": ("Anna", "Maria", "Julia", "Emma", "Sara", "Nina", "Laura", "Kate", "Lily", "Rosa", "Clara", "Mia"),
    "he": ("Tom", "David", "Peter", "Mark", "Leo", "Sam", "Paul", "Jack", "Oscar", "Ben", "Felix", "Max"),
}
OBJECTS = (
    "car", "laptop", "bike", "guitar", "camera", "phone", "couch", "tent", "coat", "watch", "ring", "piano",
    "television", "desk", "kayak", "scooter", "telescope", "printer", "violin", "skateboard",
)  # fmt: skip
PLACES = (
    "a small apartment", "an old house", "the city center", "a quiet village", "a student dorm",
    "a rented cabin", "a big farm", "the suburbs", "a shared flat", "a house by the lake",
)  # fmt: skip
TIMES = (
    "last week", "two days ago", "on Sunday", "yesterday", "during the holidays", "last month",
    "on my birthday", "this morning", "in the summer", "after the party",
)  # fmt: skip
SPANS = ("two years", "three years", "five years", "six months", "ten years", "a few weeks", "most of my life")

# The conflict: what the other person did, in the past tense, and what it is called.
CONFLICTS = {
    "borrow": ("borrowed my {object} without asking", "took my {object} without permission"),
    "break": ("broke my {object} and never said sorry", "damaged my {object} and did not apologize"),
    "lie": ("lied to me about the {object}", "was not honest about the {object}"),
    "sell": ("sold my {object} online", "sold my {object} to make some money"),
    "keep": ("refused to give back my {object}", "kept my {object} and will not return it"),
    "debt": ("never paid me for the {object}", "still owes me money for the {object}"),
    "lose": ("lost my {object} on a trip", "forgot my {object} on a train"),
    "hide": ("hid my {object} as a joke", "hid my {object} to tease me"),
    "paint": ("painted my {object} without warning", "covered my {object} in bright paint"),
    "gift": ("gave my {object} to a stranger", "handed my {object} to someone else"),
    "ignore": ("ignored my messages about the {object}", "never answered me about the {object}"),
    "blame": ("blamed me for the broken {object}", "says that I ruined the {object}"),
    "brag": ("bought the same {object} and brags about it", "copied me and shows off a new {object}"),
    "trade": ("traded my {object} for something cheap", "swapped my {object} for an old toy"),
}
EXCUSES = (
    "it was an emergency", "family should share everything", "it was only a joke", "I never use it anyway",
    "nobody told the rules", "it was an honest mistake", "money is tight right now", "I am too sensitive",
    "a friend needed it", "there was no time to ask",
)  # fmt: skip
REACTIONS = (
    "yelled and left the room", "stayed quiet", "called a friend for help", "asked for the money",
    "sent a long message", "locked my door", "cried in the kitchen", "walked out", "demanded an apology",
    "went to stay at a hotel",
)  # fmt: skip
FEELINGS = (
    "angry", "hurt", "confused", "guilty", "betrayed", "tired", "sad", "nervous", "disappointed", "lonely",
)  # fmt: skip
THIRDS = ("mom", "dad", "grandmother", "partner", "therapist", "teacher", "manager", "oldest friend")
OPINIONS = (
    "I should let it go", "I deserve better", "we both made mistakes", "I overreacted",
    "it will happen again", "I am right to be upset", "time will heal this", "I need firm rules",
)  # fmt: skip
OUTCOMES = (
    "we do not talk anymore", "the rent is late", "dinner is always tense", "I cannot sleep",
    "our friends took sides", "I miss work", "the trip is canceled", "everyone avoids me",
    "I have to take the bus", "the whole family is divided",
)  # fmt: skip
OPTIONS = (
    "move out", "forgive and forget", "ask for money", "talk again", "end the contact", "wait some time",
    "involve the family", "write a letter", "buy a new one", "set clear rules", "see a lawyer", "say sorry first",
)  # fmt: skip

# One entry per fact: sentences of the post, then of summaries (short ones, long ones).
FACTS: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "setting": (
        (
            "I [live|stay] with my {relation} {name} in {place}.",
            "My {relation} {name} and I [share|live in] {place}.",
            "[For some background|Some context], my {relation} {name} and I live in {place}.",
        ),
        ("I live with my {relation} in {place}.", "My {relation} and I share {place}."),
        (
            "The writer lives in {place} together with a {relation} called {name}.",
            "My {relation} {name} and I have a home in {place}.",
        ),
    ),
    "span": (
        ("We have known each other for {span}.", "[Things|We] were fine for {span}.", "We got along for {span}."),
        ("We knew each other for {span}.",),
        ("Everything was fine between us for {span}.", "Their relationship had been good for {span}."),
    ),
    "conflict": (
        (
            "[Well, |So, |]{time} {pronoun} {conflict}.",
            "The problem is that {pronoun} {conflict} {time}.",
            "[Then|And then], {time}, {name} {conflict}.",
        ),
        ("My {relation} {conflict}.", "{name} {conflict}.", "My {relation} {name} {conflict} {time}."),
        (
            "The main problem is that my {relation} {name} {conflict} {time}.",
            "It all began {time} when {name} {conflict}.",
            "Trouble started {time}, since my {relation} {conflict}.",
        ),
    ),
    "excuse": (
        (
            "{pronoun_cap} [says|said|claims] that {excuse}.",
            "{name} [told me|keeps saying] that {excuse}.",
            "The only excuse was that {excuse}.",
        ),
        ("{pronoun_cap} says {excuse}.", "The excuse: {excuse}."),
        (
            "{name} defends this choice and explains that {excuse}.",
            "The reason given by my {relation} was that {excuse}.",
        ),
    ),
    "reaction": (
        (
            "I {reaction}.",
            "When I [noticed|found out|heard about it], I {reaction}.",
            "My reaction was that I {reaction}.",
        ),
        ("I {reaction}.",),
        ("When the truth came out, I {reaction}.", "I could not accept it and {reaction}."),
    ),
    "feeling": (
        (
            "I feel [so|really|very] {feeling} [about this|now|].",
            "Honestly I am {feeling}.",
            "This makes me feel {feeling}.",
        ),
        ("I feel {feeling}.", "I am {feeling}."),
        ("The whole story leaves me {feeling} and unsure.", "I feel very {feeling} about what happened."),
    ),
    "opinion": (
        ("My {third} [thinks|says] that {opinion}.", "I asked my {third}, who thinks {opinion}."),
        ("My {third} says {opinion}.", "My {third} thinks {opinion}."),
        (
            "My {third} was asked for advice and believes that {opinion}.",
            "According to my {third}, {opinion}.",
        ),
    ),
    "outcome": (
        ("Now {outcome}.", "[Since then|Ever since], {outcome}.", "The result is that {outcome}."),
        ("Now {outcome}.", "{outcome}."),
        ("The conflict has a high price: {outcome}.", "Life changed a lot and {outcome}."),
    ),
    "question": (
        (
            "Should I {option} or {other}?",
            "[Reddit, should|Would it be wrong to|Is it better to] {option} or {other}?",
            "I [can't decide|do not know] whether to {option} or {other}.",
        ),
        ("Should I {option} or {other}?", "Should I {option}?"),
        (
            "The writer wonders whether to {option} or rather {other}.",
            "I must decide between two paths: {option}, or {other}.",
        ),
    ),
}  # fmt: skip

# Sentence openings by the category of transition that they belong to.
TRANSITIONS = {
    "elaboration": ("Furthermore,", "Moreover,", "In addition,"),
    "examples": ("For example,", "For instance,", "In particular,"),
    "explanation": ("Because of this,", "In other words,", "That is,"),
    "cause_effect": ("Therefore,", "As a result,", "Consequently,"),
    "contrast": ("However,", "On the other hand,", "Nevertheless,"),
    "sequence": ("First,", "Then,", "Finally,", "Next,"),
    "emphasis": ("Indeed,", "Clearly,", "Above all,"),
    "summary": ("In summary,", "Overall,", "In short,"),
    "comparison": ("Similarly,", "Likewise,", "In the same way,"),
    "concession": ("Although it is hard,", "Even though time passed,", "Despite everything,"),
    "condition": ("If nothing changes,", "Unless this ends,", "In that case,"),
    "time": ("Meanwhile,", "Afterwards,", "At the same time,"),
}
