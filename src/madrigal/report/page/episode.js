"use strict";
// One item in full: its evaluations side by side, turn by turn.

const figure = (value, digits = 2) => (value === null || value === undefined ? "none" : value.toFixed(digits));
const signed = (value) => `${value > 0 ? "+" : ""}${value.toFixed(2)}`;
const STAGES = { "": "in training", before: "before training", warm: "after the warm start", after: "after training" };
function stageOf(episode) {
  const sample = episode.sample ? `, sample ${episode.sample + 1}` : "";
  return (STAGES[episode.evaluation] || `after ${episode.step} steps`) + sample;
}
const sameWords = (one, other) => one.length === other.length && one.every((message, n) => message === other[n]);

function promptOf(turn, data, open) {
  const said = turn.prompt.map((number) => {
    const [role, content] = data.messages[number];
    return make("div", { class: "message" }, make("span", { class: "role" }, visible(role)), make("div", { dir: "auto" }, visible(content)));
  });
  const summary = make("summary", {}, `What ${visible(turn.agent)} saw`);
  const details = make("details", { class: "prompt" }, summary, ...said);
  details.open = open;
  return details;
}

function facts(turn) {
  const said = [`reward ${figure(turn.reward)}`];
  if (turn.advantage !== null) said.push(`advantage ${signed(turn.advantage)}`);
  if (turn.tokens) said.push(`${turn.tokens} tokens`);
  if (turn.finish === "length") said.push("cut off");
  return said.join(" · ");
}

function turnCell(turn, stage, data, view) {
  const number = data.agents.indexOf(turn.agent) % 8;
  const head = make(
    "header",
    {},
    make("strong", { class: `agent agent-${number + 1}` }, visible(turn.agent)),
    make("span", {}, stage),
    make("span", {}, facts(turn)),
  );
  return make("div", { class: "turn" }, head, answer(turn, view.shade));
}

function columnHead(episode) {
  const measured = Object.entries(episode.metrics).filter(([name]) => !name.startsWith("scheme/"));
  const metrics = measured.map(([name, value]) =>
    make("div", {}, make("dt", {}, visible(name.replaceAll(/[_/]/g, " "))), make("dd", {}, figure(value))),
  );
  const ending = episode.ending ? `, ${visible(episode.ending)}` : "";
  const head = make("div", { class: "head" }, ...(episode.evaluation ? [make("h4", {}, stageOf(episode))] : []));
  head.append(make("p", {}, `reward ${figure(episode.reward)}${ending}, line ${episode.line} of episodes.jsonl`));
  head.append(make("dl", { class: "metrics" }, ...metrics));
  return head;
}

function details(episode) {
  let shown = episode.details;
  try {
    shown = JSON.stringify(JSON.parse(episode.details), null, 2);
  } catch {
    // Not everything that Python writes as JSON is JSON; it is shown as it came.
  }
  const title = `Details ${stageOf(episode)}`;
  return make("details", { class: "more" }, make("summary", {}, title), make("pre", {}, visible(shown)));
}

// The turns of all columns, row by row; where all saw the same, the prompt is shown once.
function rows(columns, data, view) {
  const cells = [];
  const turns = columns.map((episode) => episode.turns.filter((turn) => !view.agent || turn.agent === view.agent));
  const length = Math.max(...turns.map((side) => side.length));
  let round = 0;
  for (let number = 0; number < length; number += 1) {
    const row = turns.map((side) => side[number]);
    const [first] = row.filter(Boolean);
    if (first.round > round) {
      round = first.round;
      cells.push(make("h5", { class: "across" }, `Round ${round + 1}`));
    }
    const shared = row.every((turn) => turn && turn.agent === first.agent && sameWords(turn.prompt, first.prompt));
    if (shared && first.prompt.length) {
      cells.push(make("div", { class: "across" }, promptOf(first, data, view.prompts)));
    }
    row.forEach((turn, side) => {
      const stage = columns.length > 1 ? stageOf(columns[side]) : "";
      const cell = turn ? turnCell(turn, stage, data, view) : make("div", { class: "turn" });
      if (turn && !shared && turn.prompt.length) cell.prepend(promptOf(turn, data, view.prompts));
      cells.push(cell);
    });
  }
  return cells;
}

function compared(item, view, again) {
  const choice = (side, chosen) => {
    const options = item.episodes.map((episode, number) => {
      const option = make("option", { value: number }, stageOf(episode));
      option.selected = number === chosen;
      return option;
    });
    const select = make("select", { "aria-label": side }, ...options);
    select.addEventListener("change", () => {
      view[side] = Number(select.value);
      again();
    });
    return select;
  };
  return make("p", { class: "compare" }, "Compare ", choice("left", view.left), " with ", choice("right", view.right));
}

function episodeView(item, data, view, again) {
  const several = item.episodes.length > 2;
  const columns = several ? [item.episodes[view.left], item.episodes[view.right]] : item.episodes;
  const [first] = item.episodes;
  const title = item.kind === "training" ? `step ${first.step}, in training` : "held-out example";
  const run = data.runs.length > 1 ? `, run ${visible(data.runs[first.run])}` : "";
  const named = columns.map((one) => schemesOf(one).map((name) => visible(name.replaceAll("_", " "))).join(" and "));
  const schemes = columns.some((one) => one.schemes.length) ? ` · scheme: ${named.join(" → ")}` : "";
  const grid = make("div", { class: `columns of-${columns.length}` }, ...columns.map(columnHead), ...rows(columns, data, view));
  const parts = [
    make("h3", {}, visible(first.example) || "without a name"),
    make("p", { class: "said" }, `${title}${run}${schemes}`),
    ...(several ? [compared(item, view, again)] : []),
    grid,
    ...columns.filter((episode) => episode.details).map(details),
  ];
  return parts;
}
