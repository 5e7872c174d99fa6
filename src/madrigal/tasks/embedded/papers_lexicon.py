"""The words of the papers corpus: data only."""

from __future__ import annotations

FIELDS = (
    "robot grasping", "speech recognition", "protein design", "traffic forecasting", "galaxy surveys",
    "wind power", "medical imaging", "language modeling", "music recommendation", "ocean circulation",
    "battery materials", "network security", "crowd simulation", "crop monitoring", "earthquake detection",
    "drug discovery", "image compression", "fluid dynamics", "quantum computing", "supply chains",
)  # fmt: skip
METHODS = (
    "sparse attention model", "particle filter", "two-stage sampler", "contrastive encoder", "graph network",
    "variational bound", "greedy search", "kernel regression", "tree ensemble", "diffusion model",
    "gradient estimator", "message passing scheme", "spectral solver", "transfer learning scheme",
    "active learning loop", "matrix factorization",
)  # fmt: skip
PROBLEMS = (
    "labels are scarce", "noise hides weak signals", "training is slow", "models forget old data",
    "measurements are missing", "errors grow over time", "costs rise with scale", "results are hard to explain",
    "conditions change quickly", "rare events dominate", "memory is limited", "expert advice is expensive",
)  # fmt: skip
DATA = (
    "satellite images", "sensor logs", "public benchmarks", "simulated trajectories", "clinical records",
    "field recordings", "laboratory samples", "web archives", "street cameras", "historical tables",
    "synthetic graphs", "user surveys",
)  # fmt: skip
METRICS = (
    "accuracy", "prediction error", "running time", "memory use", "robustness", "energy demand", "sample efficiency",
    "calibration",
)  # fmt: skip
USES = (
    "early warning systems", "low cost devices", "public planning", "safer operation", "scientific discovery",
    "daily practice", "large scale deployment", "open source tools", "better decisions", "real time control",
)  # fmt: skip
IDEAS = (
    "reuses old estimates", "shares weights between tasks", "removes redundant features", "adapts its step size",
    "learns from few examples", "splits the domain into parts", "ignores outliers", "corrects its own errors",
    "combines local and global views", "keeps a small memory",
)  # fmt: skip

ABSTRACT = (
    (
        "[Progress in|Research on|Work on] {field} is [limited|slowed down|held back] because {problem}.",
        "In {field}, {problem}, which [limits|hurts] {metric}.",
        "A [central|key|common] difficulty of {field} is that {problem}.",
    ),
    (
        "[Existing|Previous|Common] methods [ignore|do not address] this [issue|problem].",
        "[Standard|Known] approaches need [too much|a lot of] data and time.",
        "[Earlier|Most] solutions work only in simple settings.",
    ),
    (
        "We [propose|present|introduce|study] a {method} that {idea}.",
        "This paper [proposes|presents|introduces] a {method} which {idea}.",
    ),
    (
        "[The approach|It|Our method] is [trained|tested|evaluated] on {data}.",
        "We [test|evaluate|apply] the {method} on {data} from {num} sources.",
    ),
    (
        "It [improves|changes] {metric} by {num} percent [over strong baselines|compared with prior work].",
        "[Experiments|Results] show [a gain|an improvement] of {num} percent in {metric}.",
    ),
    (
        "[The results|These findings] [may help|are useful for|open the way to] {use}.",
        "We [discuss|outline] [limits|implications] and applications in {use}.",
        "[Code|The software] is released to support {use}.",
    ),
)  # fmt: skip

BACKGROUND = (
    "[Research on|Interest in|Work on] {field} has [grown|expanded|increased] [quickly|steadily] in recent years.",
    "The field of {field} [matters|is important] for science and for {use}.",
    "[A central|One major|A common] challenge is that {problem}.",
    "[Many|Several|Most] existing approaches to {field} [assume|require] clean and complete data.",
    "In practice, {problem}, and this [limits|reduces] {metric}.",
    "[Earlier|Previous|Prior] studies focused on simple settings with {data}.",
    "Such studies [rarely|seldom] report {metric} under realistic conditions.",
    "Traditional models [fail|break down|struggle] when {problem}.",
    "This [gap|difficulty|weakness] has been [known|discussed] for a long time.",
    "[Practitioners|Engineers|Experts] need reliable tools that support {use}.",
    "The [demand|need] for {use} makes the problem [urgent|timely|relevant].",
    "[Several|Some] authors collected {data} to [measure|describe] the effect.",
    "[Simple|Naive] baselines remain [popular|common] because they are easy to use.",
    "They ignore that {problem}.",
    "[Large|Modern] models promise progress but raise the question of {metric}.",
    "There is [little|no] agreement about how {metric} should be [measured|compared].",
    "[Small|Minor] errors in {data} can lead to [wrong|costly] conclusions.",
    "[Advances|Progress] in {field} could [change|improve] {use}.",
    "The [literature|community] offers [few|limited] answers to this question.",
    "[Theory|Analysis] explains only a [part|fraction] of what is observed in {field}.",
    "[Human|Manual] effort is still [needed|required] at many steps.",
    "[Costs|Delays] are a [serious|practical] concern for [teams|groups] with small budgets.",
    "A better understanding of why {problem} is therefore [needed|desirable].",
    "This [motivates|calls for] a new look at {field}.",
    "[Our|This] work is motivated by [these|such] open questions.",
    "[Recent|New] {data} make it possible to study the [issue|question] in detail.",
    "The main motivation is to improve {metric} where {problem}.",
    "[Review|Survey] articles list {metric} as a [key|main] obstacle.",
)  # fmt: skip
METHOD = (
    "We [propose|present|introduce|develop] a {method} for {field}.",
    "The [key|central|main] idea is that the {method} {idea}.",
    "It [works|operates] in {small} stages that are [trained|tuned] together.",
    "[First|In the first stage], the input is [mapped|converted] to a compact form.",
    "[Then|In the second stage], the {method} [updates|refines] its estimates.",
    "[The last|A final] stage [combines|merges] all outputs into one prediction.",
    "[This design|The design] {idea} and keeps the cost low.",
    "We [train|fit] the model on {data} with {num} repetitions.",
    "The [evaluation|test] uses {data} that were not seen in training.",
    "[Performance|Quality] is reported as {metric} with error bars.",
    "[Experiments|Results] show that {metric} changes by {num} percent.",
    "[An ablation|A control] study shows that each part [matters|helps].",
    "The [gain|benefit] is largest where {problem}.",
    "[Compared with|Relative to] strong baselines, the {method} is [simple|fast|stable].",
    "[Training|Learning] takes {num} hours on a single machine.",
    "The [procedure|algorithm] needs no [manual|expert] tuning.",
    "[Parameters|Settings] are chosen on a separate part of the {data}.",
    "[We|The authors] also [derive|prove] a bound on the [error|loss].",
    "The [analysis|theory] explains why the method {idea}.",
    "[Failures|Errors] occur mainly when {problem}.",
    "[These|Such] results [suggest|imply] new options for {use}.",
    "[A practical|One] implication is that {use} become [cheaper|easier].",
    "[Future|Later] work can extend the {method} to other tasks.",
    "[Code|Software] and {data} will be [shared|released].",
    "The [approach|framework] can be [adapted|transferred] to related fields.",
    "[Overall|Taken together], the findings [support|favor] the {method} for {field}.",
    "The improvement of {metric} is [consistent|stable] across {small} settings.",
    "[Users|Readers] can apply the {method} without large computers.",
)  # fmt: skip
